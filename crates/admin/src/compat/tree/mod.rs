//! The original's commands, once: the script's parser and help, esxcli's back end and its plug-in definition all read
//! this table. What the original did not have and an administrator cannot do without (what becomes of the volumes of a
//! VM that changes its vmgroup) is here too, and so can be said through either face.

mod config;
mod policy;
mod vmgroup;
mod volume;

/// A command, or commands below a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    /// Commands below a name.
    Group {
        /// The name.
        name: &'static str,
        /// What they are about.
        about: &'static str,
        /// The commands.
        nodes: &'static [Node],
    },
    /// A command.
    Verb(Verb),
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verb {
    /// Its name below its groups.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// What it takes.
    pub(crate) options: &'static [Opt],
    /// What is done.
    pub(crate) act: Act,
    /// What it answers.
    pub(crate) answer: Answer,
}

/// An option of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt {
    /// Its name without dashes; one letter takes one dash.
    pub(crate) name: &'static str,
    /// What follows it.
    pub(crate) takes: Takes,
    /// Whether the command needs it.
    pub(crate) required: bool,
    /// What it is for.
    pub(crate) about: &'static str,
}

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A text, shown in help under this name.
    Text(&'static str),
    /// A list of columns.
    Columns,
    /// True or False.
    Truth,
    /// Nothing.
    Nothing,
}

/// What a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A table with these columns.
    Table(&'static [&'static str]),
    /// The table's data, of which esxcli shows these columns.
    Shown(&'static [&'static str], &'static [&'static str]),
    /// A text.
    Message,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    VolumeLs,
    VolumeSet,
    PolicyCreate,
    PolicyRm,
    PolicyLs,
    PolicyUpdate,
    GroupCreate,
    GroupUpdate,
    GroupRm,
    GroupLs,
    VmAdd,
    VmRm,
    VmReplace,
    VmLs,
    AccessAdd,
    AccessSet,
    AccessRm,
    AccessLs,
    ConfigInit,
    ConfigRm,
    ConfigMv,
    ConfigStatus,
    Status,
}

/// The columns of `volume ls`, as `-c` names them and as the header does.
pub(crate) const VOLUME_COLUMNS: [(&str, &str); 13] = [
    ("volume", "Volume"),
    ("datastore", "Datastore"),
    ("vmgroup", "VMGroup"),
    ("capacity", "Capacity"),
    ("used", "Used"),
    ("fstype", "Filesystem"),
    ("policy", "Policy"),
    ("disk-format", "Disk Format"),
    ("attached-to", "Attached-to"),
    ("access", "Access"),
    ("attach-as", "Attach-as"),
    ("created-by", "Created By"),
    ("created", "Created Date"),
];

const SIZE: &str = "Num{MB,GB,TB}";

const fn text(name: &'static str, about: &'static str) -> Opt {
    Opt {
        name,
        takes: Takes::Text("VALUE"),
        required: false,
        about,
    }
}

const fn needed(name: &'static str, about: &'static str) -> Opt {
    Opt {
        required: true,
        ..text(name, about)
    }
}

const fn size(name: &'static str, about: &'static str) -> Opt {
    Opt {
        takes: Takes::Text(SIZE),
        ..text(name, about)
    }
}

const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt {
        takes: Takes::Nothing,
        ..text(name, about)
    }
}

const fn list(name: &'static str, required: bool, about: &'static str) -> Opt {
    Opt {
        takes: Takes::Text("vm1,vm2,..."),
        required,
        ..text(name, about)
    }
}

const fn verb(
    name: &'static str,
    act: Act,
    answer: Answer,
    about: &'static str,
    options: &'static [Opt],
) -> Node {
    Node::Verb(Verb {
        name,
        about,
        options,
        act,
        answer,
    })
}

/// All commands.
pub(crate) const TREE: &[Node] = &[
    Node::Group {
        name: "volume",
        about: "Manage volumes",
        nodes: volume::COMMANDS,
    },
    Node::Group {
        name: "policy",
        about: "Manage vSAN storage policies",
        nodes: policy::COMMANDS,
    },
    Node::Group {
        name: "vmgroup",
        about: "Manage vmgroups: who may do what",
        nodes: vmgroup::COMMANDS,
    },
    Node::Group {
        name: "config",
        about: "Manage the configuration that vmgroups and policies are kept in",
        nodes: config::COMMANDS,
    },
    verb(
        "status",
        Act::Status,
        Answer::Message,
        "Show the state of the service and of the configuration",
        &[flag("fast", "Leave version and port out")],
    ),
];

/// Every command with its path, in the table's order.
pub(crate) fn verbs() -> Vec<(Vec<&'static str>, Verb)> {
    fn walk(nodes: &[Node], above: &[&'static str], found: &mut Vec<(Vec<&'static str>, Verb)>) {
        for node in nodes {
            let below = |name| [above, &[name]].concat();
            match node {
                Node::Group { name, nodes, .. } => walk(nodes, &below(*name), found),
                Node::Verb(verb) => found.push((below(verb.name), *verb)),
            }
        }
    }
    let mut found = Vec::new();
    walk(TREE, &[], &mut found);
    found
}

impl Node {
    /// Its name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Group { name, .. } => name,
            Self::Verb(verb) => verb.name,
        }
    }

    /// What it is about.
    pub(crate) const fn about(&self) -> &'static str {
        match self {
            Self::Group { about, .. } => about,
            Self::Verb(verb) => verb.about,
        }
    }
}

impl Opt {
    /// As it is typed.
    pub(crate) fn typed(&self) -> String {
        let dashes = if self.name.len() == 1 { "-" } else { "--" };
        format!("{dashes}{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_volume_ls_is_what_its_columns_are_called() {
        let names: Vec<_> = VOLUME_COLUMNS.iter().map(|(_, header)| *header).collect();
        assert_eq!(names, volume::VOLUME_HEADER);
    }

    #[test]
    fn the_commands_are_the_originals() {
        let names: Vec<_> = verbs()
            .into_iter()
            .map(|(path, _)| path.join(" "))
            .collect();
        let original = "volume ls,volume shortls,volume set,policy create,policy rm,policy ls,policy update,\
                        vmgroup create,vmgroup update,vmgroup rm,vmgroup ls,vmgroup vm add,vmgroup vm rm,\
                        vmgroup vm replace,vmgroup vm ls,vmgroup access add,vmgroup access set,vmgroup access rm,\
                        vmgroup access ls,config init,config rm,config mv,config status,status";
        assert_eq!(names.join(","), original);
    }
}
