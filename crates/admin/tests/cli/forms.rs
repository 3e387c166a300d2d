//! The forms for programs: every answer and every error as JSON, XML and CSV; help, completions and manual pages.

use std::fs;
use std::mem::take;

use roxmltree::Document;
use serde_json::Value;

use crate::rig::{World, no_agent, vdvs};

const XMLNS: &str = "http://www.vmware.com/Products/ESX/6.0/esxcli/";

/// A command of every verb that asks nothing back.
const VERBS: &[&str] = &[
    "status",
    "volume ls",
    "volume ls --wide",
    "volume inspect postgres_vol",
    "volume why postgres_vol",
    "volume set v access=read-only",
    "volume move v dev",
    "volume adopt old dev",
    "volume detach v",
    "volume protect v",
    "volume unprotect v",
    "volume rm v --yes",
    "vmgroup ls",
    "vmgroup show dev",
    "vmgroup create dev --default-datastore=ds",
    "vmgroup update dev --description=x",
    "vmgroup rm dev --yes",
    "vmgroup vm add dev vm1",
    "vmgroup vm rm dev vm1",
    "vmgroup vm replace dev vm1",
    "vmgroup vm ls dev",
    "vmgroup access add dev ds",
    "vmgroup access set dev ds",
    "vmgroup access rm dev ds",
    "vmgroup access ls dev",
    "policy ls",
    "policy create p c",
    "policy update p c",
    "policy rm p",
    "config init --local",
    "config rm --local --confirm",
    "config mv ds",
    "config status",
    "config history",
    "vm ls",
    "host ls",
    "datastore ls",
    "audit ls",
    "audit export",
    "work ls",
    "work show w-endless --no-wait",
    "doctor",
    "fsck",
];

/// Rows of RFC 4180, as a program would read them.
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(take(&mut cell)),
            '\n' if !quoted => {
                row.push(take(&mut cell));
                rows.push(take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(
        row.is_empty() && cell.is_empty(),
        "a last line without end: {text}"
    );
    rows
}

#[test]
fn every_verb_answers_in_every_form() {
    let world = World::start();
    for verb in VERBS {
        // They found something.
        let code = match *verb {
            "status" | "fsck" => 1,
            "doctor" => 2,
            _ => 0,
        };
        for form in ["json", "xml", "csv"] {
            let ran = world.vdvs(&format!("{verb} --output {form}"));
            assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{verb} {form}");
            match form {
                "json" => {
                    let value: Result<Value, _> = serde_json::from_str(&ran.out);
                    assert!(value.is_ok(), "{verb}: {}", ran.out);
                }
                "xml" => {
                    let document = Document::parse(&ran.out).unwrap();
                    let root = document.root_element();
                    assert!(root.has_tag_name((XMLNS, "output")), "{verb}");
                    let strings = root
                        .descendants()
                        .filter(|n| n.has_tag_name((XMLNS, "string")));
                    assert!(strings.count() > 0, "{verb}");
                }
                _ => {
                    let rows = csv(&ran.out);
                    assert!(rows.len() > 1, "{verb}: {}", ran.out);
                    assert!(rows.iter().all(|r| r.len() == rows[0].len()), "{verb}");
                }
            }
        }
    }
}

#[test]
fn numbers_for_programs_are_bytes_and_for_people_are_sizes() {
    let world = World::start();
    let rows = csv(&world.vdvs("vmgroup access ls dev -o csv").out);
    assert_eq!(
        rows[0],
        ["datastore", "allow-create", "max-volume-size", "total-size"]
    );
    assert_eq!(rows[1], ["ds2", "false", "524288000", "1073741824"]);
    assert_eq!(rows[2], ["vsanDatastore", "true", "", "1073741824"]);
    let xml = world.vdvs("vmgroup access ls dev -o xml").out;
    let document = Document::parse(&xml).unwrap();
    let strings: Vec<_> = document
        .descendants()
        .filter(|n| n.has_tag_name((XMLNS, "string")))
        .map(|n| n.text().unwrap_or_default())
        .collect();
    assert_eq!(strings[..4], ["ds2", "False", "500.00MB", "1.00GB"]);
    assert_eq!(strings[4..], ["vsanDatastore", "True", "Unset", "1.00GB"]);
}

#[test]
fn the_originals_columns_are_all_there() {
    let world = World::start();
    let columns = |line: &str| {
        csv(&world.vdvs(&format!("{line} -o csv")).out)
            .remove(0)
            .len()
    };
    assert_eq!(columns("volume ls --wide"), 13);
    for (line, first) in [
        (
            "vmgroup ls",
            &[
                "uuid",
                "name",
                "description",
                "default-datastore",
                "vm-list",
            ][..],
        ),
        ("vmgroup vm ls dev", &["uuid", "name"]),
        (
            "vmgroup access ls dev",
            &["datastore", "allow-create", "max-volume-size", "total-size"],
        ),
        ("policy ls", &["name", "content", "active"]),
    ] {
        let header = csv(&world.vdvs(&format!("{line} -o csv")).out).remove(0);
        assert_eq!(&header[..first.len()], first, "{line}");
    }
}

#[test]
fn errors_have_the_form_that_was_asked_for() {
    let world = World::start();
    for (line, code, reason, text) in [
        (
            "volume inspect none",
            3,
            "NOT_FOUND",
            "Volume none not found",
        ),
        (
            "volume rm twice -y",
            4,
            "AMBIGUOUS",
            "2 volumes are called twice",
        ),
        (
            "volume detach lost",
            7,
            "UNAVAILABLE",
            "whether it was done is not known",
        ),
        ("volume rm postgres_vol", 2, "INVALID_ARGUMENT", "--yes"),
        // Even where the command line itself cannot be read.
        (
            "volume remove x",
            2,
            "INVALID_ARGUMENT",
            "unrecognized subcommand",
        ),
        (
            "volume inspect",
            2,
            "INVALID_ARGUMENT",
            "required arguments",
        ),
    ] {
        for form in ["json", "xml", "csv"] {
            let ran = world.vdvs(&format!("{line} --output={form}"));
            assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{line} {form}");
            let (shown_reason, shown_text) = match form {
                "json" => {
                    let error: Value = serde_json::from_str(&ran.err).unwrap();
                    let field =
                        |name: &str| error.pointer(name).unwrap().as_str().unwrap().to_owned();
                    (field("/error/reason"), field("/error/text"))
                }
                "xml" => {
                    let document = Document::parse(&ran.err).unwrap();
                    let field = |name: &str| {
                        let mut all = document.descendants();
                        let field = all.find(|n| n.attribute("name") == Some(name)).unwrap();
                        let string = field.children().find(|n| n.is_element()).unwrap();
                        string.text().unwrap_or_default().to_owned()
                    };
                    (field("Reason"), field("Error"))
                }
                _ => {
                    let rows = csv(&ran.err);
                    (rows[1][0].clone(), rows[1][3].clone())
                }
            };
            assert_eq!(shown_reason, reason, "{line} {form}");
            assert!(shown_text.contains(text), "{line} {form}: {shown_text}");
        }
    }
}

#[test]
fn an_export_holds_every_row_oldest_first() {
    let world = World::start();
    let ran = world.vdvs("audit export");
    let numbers = |text: &str| -> Vec<u64> {
        text.lines()
            .map(|l| {
                serde_json::from_str::<Value>(l).unwrap()["number"]
                    .as_u64()
                    .unwrap()
            })
            .collect()
    };
    assert_eq!(numbers(&ran.out), [41, 43, 44]);
    let file = world.dir.path().join("audit.jsonl");
    let ran = world.vdvs(&format!("audit export --denials {}", file.display()));
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(numbers(&fs::read_to_string(&file).unwrap()), [44]);
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let (dir, socket) = no_agent();
    let file = dir.path().join("audit.jsonl");
    let ran = vdvs(&socket, &format!("audit export {}", file.display()));
    assert_eq!(ran.code, 7);
    assert!(!file.exists());
}

#[test]
fn a_status_without_warnings_is_exit_code_0() {
    assert_eq!(World::empty().vdvs("status").code, 0);
    assert_eq!(World::start().vdvs("status --fast").code, 1);
}

/// All commands, from the manual's own list of pages.
#[test]
fn every_command_has_help_and_a_manual_page_without_an_agent() {
    let (dir, socket) = no_agent();
    let pages = dir.path().join("man");
    let ran = vdvs(&socket, &format!("man --dir {}", pages.display()));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let mut names: Vec<String> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for verb in VERBS {
        let nouns = ["vm", "access"];
        let mut words = verb.split(' ');
        let first = words.next().unwrap();
        let mut page = vec!["vdvs", first];
        for word in words.take_while(|w| !w.starts_with("--")) {
            page.push(word);
            if !nouns.contains(&word) {
                break;
            }
        }
        let name = format!("{}.1", page.join("-"));
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    for name in names {
        let page = fs::read_to_string(pages.join(&name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
        let command = name.trim_end_matches(".1").replacen("vdvs", "", 1);
        for flag in ["--help", "-h"] {
            let ran = vdvs(&socket, &format!("{} {flag}", command.replace('-', " ")));
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
            assert!(ran.out.contains("Usage: vdvs"), "{name}");
        }
    }
    let one = vdvs(&socket, "man volume ls");
    assert!(one.out.contains("vdvs\\-volume\\-ls"), "{}", one.out);
    assert_eq!(vdvs(&socket, "man volume list").code, 3);
}

#[test]
fn completions_know_every_noun() {
    let (_dir, socket) = no_agent();
    for shell in ["bash", "zsh", "fish"] {
        let ran = vdvs(&socket, &format!("completions {shell}"));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        for word in [
            "volume", "vmgroup", "policy", "config", "audit", "work", "adopt",
        ] {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
    }
}
