//! The list of commands, the definition written from it, and the arguments read by it.

use std::collections::BTreeSet;
use std::mem::take;
use std::sync::LazyLock;

use clap::CommandFactory;
use proptest::collection::vec;
use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::super::tree::{self, Takes};
use super::arguments::{cli, given, read};
use super::commands::{Command, How, Parameter, Shape, all, find};
use super::plugin::{PROGRAM, ROOT};
use super::*;
use crate::args::Cli;

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|w| (*w).to_owned()).collect()
}

fn command(path: &str) -> Command {
    let found = all().into_iter().find(|c| c.path.join(" ") == path);
    found.unwrap_or_else(|| panic!("no command {path}"))
}

/// All verbs of `vdvs`, by their paths.
fn leaves(command: &clap::Command, path: &[&str], found: &mut BTreeSet<String>) {
    for below in command.get_subcommands() {
        let path = [path, &[below.get_name()]].concat();
        if below.has_subcommands() {
            leaves(below, &path, found);
        } else {
            found.insert(path.join(" "));
        }
    }
}

#[test]
fn esxcli_offers_every_verb_of_the_program_and_of_the_original() {
    let mut expected = BTreeSet::new();
    leaves(&Cli::command(), &[], &mut expected);
    expected.retain(|path| !matches!(path.as_str(), "completions" | "man"));
    expected.extend(tree::verbs().into_iter().map(|(path, _)| path.join(" ")));
    let offered: BTreeSet<String> = all().iter().map(|c| c.path.join(" ")).collect();
    assert_eq!(offered, expected);
}

/// What `vdvs` takes for a verb of the original, its other faces take too; what they leave out stands here.
#[test]
fn no_option_of_a_changing_verb_is_missing_in_the_other_faces() {
    let mut root = Cli::command();
    root.build();
    for (path, verb) in tree::verbs() {
        if verb.answer != tree::Answer::Message {
            continue;
        }
        let below = path
            .iter()
            .try_fold(&root, |c, name| c.find_subcommand(name));
        let below = below.unwrap_or_else(|| panic!("vdvs has no {path:?}"));
        let own = below.get_arguments().filter(|a| !a.is_global_set());
        for long in own.filter_map(|a| a.get_long()).filter(|l| *l != "help") {
            let there = verb.options.iter().any(|o| o.name == long);
            assert!(there, "{path:?} has no --{long}");
        }
    }
}

#[test]
fn every_command_and_parameter_is_explained() {
    for command in all() {
        assert!(!command.about.is_empty(), "{command:?}");
        let mut names = BTreeSet::new();
        for parameter in &command.parameters {
            assert!(!parameter.about.is_empty(), "{command:?}");
            assert!(names.insert(&parameter.name), "{command:?}");
        }
    }
}

#[test]
fn what_stands_by_itself_on_the_command_line_has_a_name_here() {
    let names = |path: &str| -> Vec<(String, bool)> {
        let parameters = command(path).parameters.into_iter();
        parameters.map(|p| (p.name, p.required)).collect()
    };
    assert_eq!(names("volume inspect"), [("volume".to_owned(), true)]);
    assert_eq!(names("work show"), [("id".to_owned(), true)]);
    let adopt = [("volume", true), ("to-group", true), ("force", false)];
    assert_eq!(names("volume adopt"), adopt.map(|(n, r)| (n.to_owned(), r)));
}

#[test]
fn the_definition() {
    insta::assert_snapshot!(definition(PROGRAM));
}

fn texts<'a>(node: Node<'a, '_>, name: &str) -> Vec<&'a str> {
    let named = node.descendants().filter(|n| n.tag_name().name() == name);
    named.map(|n| n.text().unwrap_or_default()).collect()
}

fn attributes(node: Node<'_, '_>, name: &str, key: &str) -> Vec<String> {
    let named = node.descendants().filter(|n| n.tag_name().name() == name);
    named
        .map(|n| n.attribute(key).unwrap().to_owned())
        .collect()
}

/// The words a shell makes of the line after esxcli put the values in: blanks separate, single quotes hold together.
fn shell(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted && (any || !word.is_empty()) => {
                words.push(take(&mut word));
                any = false;
            }
            ' ' if !quoted => {}
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The line esxcli runs when every parameter is given this value.
fn filled(line: &str, value: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        if let Some(name) = after.strip_prefix("val{") {
            out += value;
            rest = name.split_once('}').unwrap().1;
        } else {
            // `if{name, text}`: the text itself may hold a `$val{name}`.
            rest = after
                .strip_prefix("if{")
                .unwrap()
                .split_once(", ")
                .unwrap()
                .1;
        }
    }
    out + rest
}

/// The closing braces of `$if{...}` are left over by [`filled`]; none of our names holds one.
fn line_of(node: Node<'_, '_>, value: &str) -> Vec<String> {
    let line = texts(node, "execute").concat();
    let mut words = shell(&filled(&line, value));
    for word in &mut words {
        if let Some(whole) = word.strip_suffix('}').filter(|w| !w.contains('{')) {
            *word = whole.to_owned();
        }
    }
    words
}

#[test]
fn the_definition_runs_what_the_back_end_reads() {
    let value = "a b=\"c\" $HOME;|&`<>*";
    let text = definition(PROGRAM);
    let document = Document::parse(&text).unwrap();
    let offered = document
        .descendants()
        .filter(|n| n.tag_name().name() == "command");
    let commands = all();
    assert_eq!(offered.clone().count(), commands.len());
    for (node, command) in offered.zip(&commands) {
        assert_eq!(
            node.attribute("path").unwrap(),
            format!("{ROOT}.{}", command.path.join("."))
        );
        let line = line_of(node, value);
        assert_eq!(line[..2], [PROGRAM, "esxcli"]);
        let (found, rest) = find(&commands, &line[2..]).unwrap();
        assert_eq!(found.path, command.path);
        let values = read(found, rest).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let got: Vec<(&str, Option<&str>)> = values
            .iter()
            .map(|(p, v)| (p.name.as_str(), v.as_deref()))
            .collect();
        let expected: Vec<_> = found
            .parameters
            .iter()
            .map(|p| {
                (
                    p.name.as_str(),
                    (p.takes != Takes::Nothing).then_some(value),
                )
            })
            .collect();
        assert_eq!(got, expected);
        assert_eq!(
            attributes(node, "parameter", "name").len(),
            found.parameters.len()
        );
        match &found.shape {
            Shape::List(fields, shown) => {
                assert_eq!(attributes(node, "field", "name"), *fields);
                assert_eq!(texts(node, "format-parameter"), [shown.join(",")]);
            }
            Shape::Message => assert!(attributes(node, "field", "name").is_empty()),
        }
    }
}

#[test]
fn every_name_space_of_a_command_is_declared() {
    let text = definition(PROGRAM);
    let document = Document::parse(&text).unwrap();
    let root = document.root_element();
    let declared: BTreeSet<String> = attributes(root, "namespace", "path").into_iter().collect();
    for path in attributes(root, "command", "path") {
        let above = path.rsplit_once('.').unwrap().0;
        assert!(declared.contains(above), "{path}");
    }
}

#[test]
fn booleans_are_understood_as_esxcli_writes_them() {
    let set = command("vmgroup access set");
    let allow = |typed: &str| -> String {
        let line = words(&[
            "--name=g",
            "--datastore=d",
            &format!("--allow-create={typed}"),
        ]);
        let values = read(&set, &line).unwrap();
        values[2].1.clone().unwrap()
    };
    for (typed, expected) in [
        ("true", "True"),
        ("1", "True"),
        ("FALSE", "False"),
        ("no", "False"),
        ("maybe", "maybe"),
        ("", ""),
    ] {
        assert_eq!(allow(typed), expected, "{typed}");
    }
    let add = command("vmgroup access add");
    let flag =
        |typed: &str| read(&add, &words(&["--name=g", "--datastore=d", typed])).map(|v| v.len());
    assert_eq!(flag("--allow-create"), Ok(3));
    assert_eq!(flag("--allow-create=true"), Ok(3));
    assert_eq!(flag("--allow-create=false"), Ok(2));
    assert!(
        flag("--allow-create=maybe")
            .unwrap_err()
            .contains("true or false")
    );
}

#[test]
fn mistakes_say_what_there_is() {
    for (line, wrong) in [
        (
            &["vmgroup", "rm"][..],
            "--name is missing; vmgroup rm takes --name, --remove-volumes, --force",
        ),
        (
            &["vmgroup", "rm", "dev"],
            "'dev' is not known here; vmgroup rm takes",
        ),
        (&["vmgroup", "rm", "--name"], "--name needs a value"),
        (
            &["vmgroup", "rm", "--nam=dev"],
            "'--nam=dev' is not known here",
        ),
        (
            &["vmgroup", "rm", "--name=a", "--name=b"],
            "--name is given twice",
        ),
        (&["policy", "ls", "--x"], "policy ls takes nothing"),
        (
            &["vmgroup", "mv"],
            "there is no command 'vmgroup mv'; there are: audit export, audit ls, ",
        ),
        (
            &["volume", "rm", "--volume=v"],
            "nobody can be asked here; nothing was done. Say --yes",
        ),
        (
            &["audit", "ls", "--limit=many"],
            "invalid value 'many' for '--limit",
        ),
    ] {
        let said = run(&words(line), &Connection::nowhere());
        assert_eq!((said.code, said.err.as_str()), (2, ""), "{line:?}");
        let document = Document::parse(&said.out).unwrap();
        let text = texts(document.root_element(), "string").concat();
        assert!(
            text.starts_with("ERROR:") && text.contains(wrong),
            "{line:?}: {text}"
        );
    }
}

#[test]
fn without_an_agent_there_is_still_a_document() {
    let said = run(&words(&["volume", "ls"]), &Connection::nowhere());
    assert_eq!(said.code, 7);
    assert!(
        said.out.contains("<string>ERROR:the agent does not run"),
        "{}",
        said.out
    );
    let said = run(&words(&["status"]), &Connection::nowhere());
    assert_eq!(said.code, 0);
    assert!(said.out.contains("Status: Stopped"), "{}", said.out);
}

/// The values `vdvs` or the original's script would get.
fn received(command: &Command, line: &[String]) -> Option<String> {
    let values = read(command, line).unwrap();
    match command.how {
        How::Original(verb) => Some(format!("{:?}", given(&verb, &values))),
        How::Own => cli(command, &values)
            .ok()
            .map(|cli| format!("{:?}", cli.command)),
    }
}

/// Numbers are read as numbers, and no file has an empty name.
fn takes(value: &str) -> impl Fn(&&Parameter) -> bool {
    |p| {
        let text = matches!(p.takes, Takes::Text(_))
            && !matches!(p.name.as_str(), "limit" | "before" | "controllers");
        text && !(value.is_empty() && p.name == "file")
    }
}

/// Built once: a debug build takes its time with it.
fn lenient() -> &'static [Command] {
    static COMMANDS: LazyLock<Vec<Command>> = LazyLock::new(|| {
        let mut commands = all();
        for parameter in commands.iter_mut().flat_map(|c| &mut c.parameters) {
            parameter.required = false;
        }
        commands
    });
    &COMMANDS
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_value_arrives_whole_through_every_command(value in any::<String>()) {
        for command in lenient() {
            let line: Vec<String> = command
                .parameters
                .iter()
                .filter(takes(&value))
                .flat_map(|p| [format!("--{}", p.name), value.clone()])
                .collect();
            let texts = command.parameters.iter().filter(takes(&value)).count();
            let shown = format!("{value:?}");
            let Some(got) = received(command, &line) else {
                prop_assert!(value.is_empty(), "{:?} was refused", line);
                continue;
            };
            prop_assert!(got.matches(&shown).count() >= texts, "{} in {}", shown, got);
        }
    }

    #[test]
    fn any_words_are_answered_with_a_document(line in vec(prop_oneof![
        any::<String>(),
        "(volume|vmgroup|vm|access|ls|rm|set|status|--name|--volume|--yes|=)",
        "--[a-z-]{1,8}(=.{0,5})?",
    ], 0..6)) {
        let said = run(&line, &Connection::nowhere());
        prop_assert!(Document::parse(&said.out).is_ok(), "{}", said.out);
        prop_assert!(said.err.is_empty());
    }
}
