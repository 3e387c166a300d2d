//! Usage and help of the script, in argparse's arrangement. They need no agent.

use super::argparse::is_scripts;
use super::tree::{Node, Opt, Takes, VOLUME_COLUMNS, Verb};

/// What the program is called.
pub(crate) const PROGRAM: &str = "vmdkops_admin.py";

/// A place in the tree where a command's name is expected.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    /// The names down to here.
    pub(crate) path: Vec<&'static str>,
    /// What may follow.
    pub(crate) nodes: &'static [Node],
}

fn program(path: &[&str]) -> String {
    [&[PROGRAM], path].concat().join(" ")
}

/// The names that may follow.
pub(crate) fn names(level: &Level) -> Vec<&'static str> {
    level
        .nodes
        .iter()
        .filter(|n| is_scripts(n))
        .map(Node::name)
        .collect()
}

/// `usage: ...` of a level.
pub(crate) fn level_usage(level: &Level) -> String {
    let format = if level.path.is_empty() {
        " [--output-format {xml,table}]"
    } else {
        ""
    };
    let names = names(level).join(",");
    format!(
        "usage: {} [-h]{format} {{{names}}} ...\n",
        program(&level.path)
    )
}

/// Help of a level.
pub(crate) fn help(level: &Level) -> String {
    let mut out = level_usage(level);
    if level.path.is_empty() {
        out += "\nManage the volumes, policies and vmgroups of virtual machines, with the original's\n\
                commands. The program vdvs can do more; see vdvs --help.\n";
    }
    out += "\npositional arguments:\n";
    out += &entry(&format!("{{{}}}", names(level).join(",")), "");
    for node in level.nodes.iter().filter(|n| is_scripts(n)) {
        out += &entry(&format!("  {}", node.name()), node.about());
    }
    out += "\noptions:\n";
    out += &entry("-h, --help", "Show this help");
    if level.path.is_empty() {
        out += &entry(
            "--output-format {xml,table}",
            "How to print; xml is what esxcli reads",
        );
    }
    out
}

/// `usage: ...` of a command.
pub(crate) fn verb_usage(path: &[&str], verb: &Verb) -> String {
    let mut out = format!("usage: {} [-h]", program(path));
    for option in verb.options {
        let typed = with_value(option);
        out += &if option.required {
            format!(" {typed}")
        } else {
            format!(" [{typed}]")
        };
    }
    out + "\n"
}

/// Help of a command.
pub(crate) fn verb_help(path: &[&str], verb: &Verb) -> String {
    let mut out = verb_usage(path, verb);
    out += &format!("\n{}.\n\noptions:\n", verb.about);
    out += &entry("-h, --help", "Show this help");
    for option in verb.options {
        let mut about = option.about.to_owned();
        if option.takes == Takes::Columns {
            let names: Vec<_> = VOLUME_COLUMNS.iter().map(|(name, _)| *name).collect();
            about += &format!(": some of {}", names.join(","));
        }
        if option.required {
            about += " (required)";
        }
        out += &entry(&with_value(option), &about);
    }
    out
}

/// Usage, and what is wrong.
pub(crate) fn mistake(path: &[&str], usage: &str, wrong: &str) -> String {
    format!("{usage}{}: error: {wrong}\n", program(path))
}

fn with_value(option: &Opt) -> String {
    let typed = option.typed();
    match option.takes {
        Takes::Nothing => typed,
        Takes::Columns => typed + " Col1,Col2,...",
        Takes::Truth => typed + " {True,False}",
        Takes::Text("VALUE") => format!("{typed} {}", option.name.to_uppercase().replace('-', "_")),
        Takes::Text(what) => format!("{typed} {what}"),
    }
}

/// Where the explanations begin.
const INDENT: usize = 24;

fn entry(left: &str, right: &str) -> String {
    let left = format!("  {left}");
    match (right.is_empty(), left.len() + 2 > INDENT) {
        (true, _) => left + "\n",
        (false, false) => format!("{left:<INDENT$}{right}\n"),
        (false, true) => format!("{left}\n{:INDENT$}{right}\n", ""),
    }
}
