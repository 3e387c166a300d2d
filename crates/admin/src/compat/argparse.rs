//! The script's command line, read as Python's argparse read it: options by a unique beginning of their name, values
//! after a blank or the first `=`, help at every level. Pure: arguments in, a command or a text and exit code out.

use super::tree::{Node, Opt, TREE, Takes, VOLUME_COLUMNS, Verb};
use super::usage::{self, Level};

/// A command with its options' values.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    /// The command.
    pub(crate) verb: Verb,
    /// What was given.
    pub(crate) given: Given,
    /// Answer in XML.
    pub(crate) xml: bool,
}

/// The values of options, by name; a flag's is empty. The last one of a name counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given(Vec<(&'static str, String)>);

impl Given {
    /// The option's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The option's value, or nothing.
    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Whether the option is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The parts of a list that commas separate; blanks around them do not count.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.get(name).unwrap_or_default().split(',');
        parts
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }
}

/// No command is run: this is said instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Help that was asked for: standard output, exit code 0.
    Help(String),
    /// No command: help on standard output, exit code 3.
    NoCommand(String),
    /// A mistake: usage and what is wrong, on standard error, exit code 2.
    Mistake(String),
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: &[String]) -> Result<Parsed, Stop> {
    let mut xml = false;
    let mut level = Level {
        path: Vec::new(),
        nodes: TREE,
    };
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if is_help(word) {
            return Err(Stop::Help(usage::help(&level)));
        }
        if word.starts_with('-') {
            let value = match word.split_once('=') {
                Some((_, value)) => Some(value),
                None => rest.next().map(String::as_str),
            };
            xml = output_format(&level, word, value)?;
            continue;
        }
        let mut names = level.nodes.iter().filter(|n| is_scripts(n));
        match names.find(|n| n.name() == word) {
            Some(Node::Group { name, nodes, .. }) => {
                level.path.push(name);
                level.nodes = nodes;
            }
            Some(Node::Verb(verb)) => {
                level.path.push(verb.name);
                let given = options(&level.path, verb, rest.as_slice())?;
                return Ok(Parsed {
                    verb: *verb,
                    given,
                    xml,
                });
            }
            None => {
                let known: Vec<_> = usage::names(&level)
                    .iter()
                    .map(|n| format!("'{n}'"))
                    .collect();
                let known = known.join(", ");
                let wrong = format!("invalid choice: '{word}' (choose from {known})");
                return Err(level.mistake(&wrong));
            }
        }
    }
    Err(Stop::NoCommand(usage::help(&level)))
}

/// `shortls` is esxcli's alone.
pub(crate) fn is_scripts(node: &Node) -> bool {
    node.name() != "shortls"
}

fn is_help(word: &str) -> bool {
    word == "-h" || (word.len() >= 3 && "--help".starts_with(word))
}

fn output_format(level: &Level, word: &str, value: Option<&str>) -> Result<bool, Stop> {
    let name = word.split('=').next().unwrap_or_default();
    if name.len() < 3 || !"--output-format".starts_with(name) || !level.path.is_empty() {
        return Err(level.mistake(&format!("unrecognized arguments: {word}")));
    }
    match value {
        Some("xml") => Ok(true),
        Some("table") => Ok(false),
        Some(other) => Err(level.mistake(&format!(
            "argument --output-format: invalid choice: '{other}' (choose from 'xml', 'table')"
        ))),
        None => Err(level.mistake("argument --output-format: expected one argument")),
    }
}

impl Level {
    fn mistake(&self, wrong: &str) -> Stop {
        Stop::Mistake(usage::mistake(&self.path, &usage::level_usage(self), wrong))
    }
}

fn options(path: &[&'static str], verb: &Verb, args: &[String]) -> Result<Given, Stop> {
    let wrong =
        |text: &str| Stop::Mistake(usage::mistake(path, &usage::verb_usage(path, verb), text));
    let mut given = Given::default();
    let mut unknown: Vec<&str> = Vec::new();
    let mut rest = args.iter().peekable();
    while let Some(word) = rest.next() {
        if is_help(word) && !verb.options.iter().any(|o| o.typed() == *word) {
            return Err(Stop::Help(usage::verb_help(path, verb)));
        }
        let (typed, attached) = split(word);
        let Some(option) = find(verb, typed).map_err(|e| wrong(&e))? else {
            unknown.push(word);
            continue;
        };
        let name = option.typed();
        let value = match (option.takes, attached) {
            (Takes::Nothing, None) => String::new(),
            (Takes::Nothing, Some(value)) => {
                return Err(wrong(&format!(
                    "argument {name}: ignored explicit argument '{value}'"
                )));
            }
            (_, Some(value)) => value.to_owned(),
            (_, None) => match rest.next_if(|next| is_value(next)) {
                Some(value) => value.clone(),
                None => return Err(wrong(&format!("argument {name}: expected one argument"))),
            },
        };
        check(option, &value).map_err(|e| wrong(&format!("argument {name}: {e}")))?;
        given.push(option.name, value);
    }
    let missing = |o: &&Opt| o.required && !given.has(o.name);
    let missing: Vec<String> = verb
        .options
        .iter()
        .filter(missing)
        .map(Opt::typed)
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(wrong(&format!(
            "the following arguments are required: {missing}"
        )));
    }
    if !unknown.is_empty() {
        return Err(wrong(&format!(
            "unrecognized arguments: {}",
            unknown.join(" ")
        )));
    }
    Ok(given)
}

/// The option as typed, and the value that is attached to it.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
    }
    // `-cvolume,used`
    match word.char_indices().nth(2) {
        Some((at, _)) if word.starts_with('-') => {
            let (name, value) = word.split_at(at);
            (name, Some(value.strip_prefix('=').unwrap_or(value)))
        }
        _ => (word, None),
    }
}

/// The option of this name, or the only one whose name begins so.
fn find<'a>(verb: &'a Verb, typed: &str) -> Result<Option<&'a Opt>, String> {
    if let Some(exact) = verb.options.iter().find(|o| o.typed() == typed) {
        return Ok(Some(exact));
    }
    if !typed.starts_with("--") || typed.len() < 3 {
        return Ok(None);
    }
    let begins: Vec<&Opt> = verb
        .options
        .iter()
        .filter(|o| o.typed().starts_with(typed))
        .collect();
    match begins.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names: Vec<String> = several.iter().map(|o| o.typed()).collect();
            Err(format!(
                "ambiguous option: {typed} could match {}",
                names.join(", ")
            ))
        }
    }
}

/// What may follow an option after a blank: no option, though a negative number or a text with blanks may begin so.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word == "-" || word.contains(' ') || word.parse::<f64>().is_ok()
}

fn check(option: &Opt, value: &str) -> Result<(), String> {
    if option.takes != Takes::Columns {
        return Ok(());
    }
    let known = |part: &str| VOLUME_COLUMNS.iter().any(|(name, _)| *name == part);
    match value.split(',').find(|part| !known(part)) {
        None => Ok(()),
        Some(part) => {
            let names: Vec<_> = VOLUME_COLUMNS
                .iter()
                .map(|(name, _)| format!("'{name}'"))
                .collect();
            Err(format!(
                "invalid choices: {part} (choices must be a comma separated list of only the following words \n \
                 [{}]. No spaces are allowed between choices.)",
                names.join(",")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::compat::tree::{Act, verbs};

    fn read(words: &[&str]) -> Result<Parsed, Stop> {
        parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    fn mistake(line: &str) -> String {
        match read(&line.split(' ').collect::<Vec<_>>()) {
            Err(Stop::Mistake(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn values_stand_after_a_blank_or_the_first_equals_sign() {
        for words in [
            &["policy", "create", "--name", "gold", "--content", "a=b c"][..],
            &["policy", "create", "--name=gold", "--content=a=b c"],
            &["policy", "create", "--n=gold", "--con", "a=b c"],
            &[
                "policy",
                "create",
                "--name=lead",
                "--content",
                "a=b c",
                "--name",
                "gold",
            ],
        ] {
            let parsed = read(words).unwrap();
            assert_eq!(parsed.verb.act, Act::PolicyCreate);
            assert_eq!(parsed.given.get("name"), Some("gold"));
            assert_eq!(parsed.given.get("content"), Some("a=b c"));
            assert!(!parsed.xml);
        }
    }

    #[test]
    fn the_output_format_stands_before_the_command() {
        assert!(
            read(&["--output-format", "xml", "policy", "ls"])
                .unwrap()
                .xml
        );
        assert!(read(&["--output-format=xml", "policy", "ls"]).unwrap().xml);
        assert!(read(&["--out=xml", "policy", "ls"]).unwrap().xml);
        assert!(mistake("policy --output-format=xml ls").contains("unrecognized arguments"));
        assert!(mistake("--output-format=json policy ls").contains("invalid choice: 'json'"));
    }

    #[test]
    fn columns_are_named_without_blanks() {
        for words in [
            &["volume", "ls", "-c", "used,volume"][..],
            &["volume", "ls", "-cused,volume"],
            &["volume", "ls", "--vmgroup", "d*", "-c=used,volume"],
        ] {
            assert_eq!(
                read(words).unwrap().given.get("c"),
                Some("used,volume"),
                "{words:?}"
            );
        }
        let text = mistake("volume ls -c volume,size");
        assert!(
            text.contains("argument -c: invalid choices: size (choices must be"),
            "{text}"
        );
    }

    #[test]
    fn a_list_of_vms_may_hold_blanks() {
        let parsed = read(&[
            "vmgroup",
            "vm",
            "add",
            "--name=dev",
            "--vm-list",
            "my vm, other='x',,",
        ])
        .unwrap();
        assert_eq!(parsed.given.list("vm-list"), ["my vm", "other='x'"]);
    }

    #[test]
    fn mistakes_say_what_is_wrong_below_the_usage() {
        for (line, wrong) in [
            (
                "vols ls",
                "vmdkops_admin.py: error: invalid choice: 'vols' (choose from 'volume', ",
            ),
            (
                "volume shortls",
                "vmdkops_admin.py volume: error: invalid choice: 'shortls' (choose from 'ls', 'set')",
            ),
            (
                "policy rm",
                "vmdkops_admin.py policy rm: error: the following arguments are required: --name",
            ),
            ("policy create", "arguments are required: --name, --content"),
            ("policy rm --name", "argument --name: expected one argument"),
            (
                "policy rm --name --x",
                "argument --name: expected one argument",
            ),
            ("policy rm --name a b", "unrecognized arguments: b"),
            (
                "status --fast=yes",
                "argument --fast: ignored explicit argument 'yes'",
            ),
            ("status --slow", "unrecognized arguments: --slow"),
            (
                "vmgroup access add --name a --datastore b --vol 1GB",
                "ambiguous option: --vol could match --volume-maxsize, --volume-totalsize",
            ),
        ] {
            let text = mistake(line);
            assert!(
                text.starts_with("usage: vmdkops_admin.py"),
                "{line}: {text}"
            );
            assert!(text.contains(wrong), "{line}: {text}");
            assert!(text.ends_with('\n'), "{line}");
        }
    }

    #[test]
    fn without_a_command_there_is_help() {
        for words in [
            &[][..],
            &["volume"],
            &["vmgroup", "vm"],
            &["--output-format=xml"],
        ] {
            assert!(matches!(read(words), Err(Stop::NoCommand(_))), "{words:?}");
        }
        for words in [
            &["-h"][..],
            &["--help"],
            &["volume", "-h"],
            &["vmgroup", "access", "--he"],
        ] {
            assert!(matches!(read(words), Err(Stop::Help(_))), "{words:?}");
        }
    }

    #[test]
    fn every_command_has_help_that_names_its_options() {
        for (path, verb) in verbs() {
            if verb.name == "shortls" {
                continue;
            }
            let mut words = path.clone();
            words.push("-h");
            let Err(Stop::Help(help)) = read(&words) else {
                panic!("{path:?} has no help");
            };
            assert!(help.contains(verb.about), "{help}");
            for option in verb.options {
                assert!(help.contains(&option.typed()), "{help}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_fall(words in vec(prop_oneof![
            any::<String>(),
            "(volume|vmgroup|vm|access|add|ls|set|config|init|--[a-z]{0,5}|-[a-z]{0,2}|=|--name=x|--vm-list)",
        ], 0..8)) {
            // A result either way; a mistake always says so.
            if let Err(Stop::Mistake(text)) = parse(&words) {
                prop_assert!(text.contains(": error: "));
            }
        }

        #[test]
        fn a_value_arrives_as_it_was_given(value in any::<String>()) {
            let parsed = read(&["policy", "rm", &format!("--name={value}")]).unwrap();
            prop_assert_eq!(parsed.given.get("name"), Some(value.as_str()));
        }
    }
}
