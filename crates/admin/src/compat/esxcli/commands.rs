//! The commands esxcli offers: the original's as its table has them, and every other command of `vdvs` as its command
//! line describes it. The back end reads its arguments by this list and the plug-in's definition is written from it.

use clap::{Arg, ArgAction, CommandFactory};
use vdvs_api::v1::{DoctorReply, FsckReply, ListAuditReply};

use super::super::tree::{self, Answer, Takes, Verb};
use crate::args::Cli;
use crate::grid::Column;
use crate::view::{AuditList, Checkup, ConfigChange, Damage, Datastore, Host, Tabular, Vm, Work};

/// A command.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// Its name below its name spaces.
    pub(crate) path: Vec<String>,
    /// What it does.
    pub(crate) about: String,
    /// What it takes.
    pub(crate) parameters: Vec<Parameter>,
    /// What it answers.
    pub(crate) shape: Shape,
    /// Who does it.
    pub(crate) how: How,
}

/// What a command takes; in esxcli everything has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Its name, without dashes.
    pub(crate) name: String,
    /// What follows it.
    pub(crate) takes: Takes,
    /// Whether the command needs it.
    pub(crate) required: bool,
    /// What it is for.
    pub(crate) about: String,
    /// For `vdvs` it stands by itself, without a name.
    pub(crate) positional: bool,
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Structures with these fields, of which esxcli shows the second ones.
    List(Vec<&'static str>, Vec<&'static str>),
    /// A text.
    Message,
}

/// Who does it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// As the original's script.
    Original(Verb),
    /// As `vdvs`.
    Own,
}

/// Commands of `vdvs` that are about a shell, not about volumes.
const OF_A_SHELL: [&str; 2] = ["completions", "man"];
/// Parameters that decide how people are answered; here esxcli does.
const FOR_PEOPLE: [&str; 3] = ["no-wait", "filter", "sort"];
/// Commands that a person is asked about before they destroy. Here they must be told that they may.
const ASKED_ABOUT: [&str; 4] = [
    "volume rm",
    "volume detach",
    "config restore",
    "config import",
];
/// How they are told.
pub(crate) const YES: &str = "yes";

/// All commands, by name.
pub(crate) fn all() -> Vec<Command> {
    let mut found: Vec<Command> = tree::verbs().into_iter().map(original).collect();
    let mut cli = Cli::command();
    cli.build();
    own(&cli, &[], &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn original((path, verb): (Vec<&'static str>, Verb)) -> Command {
    let shape = match verb.answer {
        Answer::Table(fields) => Shape::List(fields.to_vec(), fields.to_vec()),
        Answer::Shown(fields, shown) => Shape::List(fields.to_vec(), shown.to_vec()),
        Answer::Message => Shape::Message,
    };
    // Which columns are shown is the definition's business.
    let options = verb.options.iter().filter(|o| o.takes != Takes::Columns);
    let parameter = |o: &tree::Opt| Parameter {
        name: o.name.to_owned(),
        takes: o.takes,
        required: o.required,
        about: o.about.to_owned(),
        positional: false,
    };
    Command {
        path: path.into_iter().map(str::to_owned).collect(),
        about: verb.about.to_owned(),
        parameters: options.map(parameter).collect(),
        shape,
        how: How::Original(verb),
    }
}

fn own(command: &clap::Command, path: &[String], found: &mut Vec<Command>) {
    for below in command.get_subcommands() {
        let name = below.get_name();
        if name == "help" || path.is_empty() && OF_A_SHELL.contains(&name) {
            continue;
        }
        let path = [path, &[name.to_owned()]].concat();
        if below.has_subcommands() {
            own(below, &path, found);
        } else if !found.iter().any(|c| c.path == path) {
            found.push(leaf(below, path));
        }
    }
}

fn leaf(command: &clap::Command, path: Vec<String>) -> Command {
    let name = path.join(" ");
    let args: Vec<&Arg> = command
        .get_arguments()
        .filter(|a| !is_everywhere(a))
        .collect();
    let mut parameters: Vec<Parameter> = args
        .iter()
        .filter(|arg| !(arg.is_positional() && flag_of(arg, &args).is_some()))
        .map(|arg| parameter(arg, &args))
        .filter(|p| !FOR_PEOPLE.contains(&p.name.as_str()))
        // What they would write to a file is the answer.
        .filter(|p| p.name != "file" || p.required)
        .collect();
    if ASKED_ABOUT.contains(&name.as_str()) {
        parameters.push(Parameter {
            name: YES.to_owned(),
            takes: Takes::Nothing,
            required: false,
            about: "Do it: nobody is asked".to_owned(),
            positional: false,
        });
    }
    let shape = fields(&name).map_or(Shape::Message, |columns| {
        let titles: Vec<_> = columns.iter().map(|c| c.title).collect();
        Shape::List(titles.clone(), titles)
    });
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    Command {
        path,
        about,
        parameters,
        shape,
        how: How::Own,
    }
}

/// The columns of a list; none: the command answers with a text.
fn fields(name: &str) -> Option<&'static [Column]> {
    let columns = match name {
        "vm ls" => Vec::<Vm>::new().grid().columns,
        "host ls" => Vec::<Host>::new().grid().columns,
        "datastore ls" => Vec::<Datastore>::new().grid().columns,
        "config history" => Vec::<ConfigChange>::new().grid().columns,
        "doctor" => Checkup::from(DoctorReply::default()).grid().columns,
        "fsck" => Damage::from(FsckReply::default()).grid().columns,
        "work ls" => Vec::<Work>::new().grid().columns,
        "audit ls" | "audit export" => AuditList::from(ListAuditReply::default()).grid().columns,
        _ => return None,
    };
    Some(columns)
}

fn is_everywhere(arg: &Arg) -> bool {
    let shows = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    shows || arg.is_global_set() || arg.is_hide_set()
}

fn value_name(arg: &Arg) -> &str {
    let names = arg.get_value_names().unwrap_or_default();
    names
        .first()
        .map_or("", |n| n.as_str().trim_end_matches(",.."))
}

/// The flag that says the same as this word.
fn flag_of<'a>(word: &Arg, args: &[&'a Arg]) -> Option<&'a Arg> {
    let same = |arg: &&&Arg| !arg.is_positional() && value_name(arg) == value_name(word);
    args.iter().find(same).copied()
}

fn parameter(arg: &Arg, args: &[&Arg]) -> Parameter {
    // The word explains itself; its flag only says that it is the same.
    let word = args.iter().find(|w| {
        w.is_positional() && flag_of(w, args).is_some_and(|flag| flag.get_id() == arg.get_id())
    });
    let about = word.unwrap_or(&arg).get_help().map(ToString::to_string);
    let name = match arg.get_long() {
        Some(long) => long.to_owned(),
        None => value_name(arg).to_lowercase(),
    };
    let takes = match arg.get_action() {
        ArgAction::SetTrue => Takes::Nothing,
        _ => Takes::Text("VALUE"),
    };
    Parameter {
        // What may stand by itself must be said, one way or the other.
        required: arg.is_required_set() || word.is_some(),
        about: about.unwrap_or_default(),
        positional: arg.is_positional(),
        name,
        takes,
    }
}

/// The command whose path the words begin with, and the words after it.
pub(crate) fn find<'c, 'w>(
    commands: &'c [Command],
    words: &'w [String],
) -> Option<(&'c Command, &'w [String])> {
    let begins = |c: &&Command| words.starts_with(&c.path);
    let command = commands
        .iter()
        .filter(begins)
        .max_by_key(|c| c.path.len())?;
    Some((command, words.get(command.path.len()..).unwrap_or_default()))
}
