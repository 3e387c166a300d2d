//! P-8: what esxcli reads. A value goes into the line as text, so a command takes what is declared, each value stands
//! between single quotes, and the program is one of this package.

use std::collections::BTreeSet;

use roxmltree::Node;

use super::Findings;
use crate::payload::PLUGIN;
use crate::vib::Vib;
use crate::xml::{child, document, elements, text};

const RULE: &str = "P-8";
/// The kinds of parameters.
const KINDS: [&str; 3] = ["string", "bool", "flag"];
/// What a command has, in this order; `has-updates` may lack.
const PARTS: [&str; 6] = [
    "description",
    "input-spec",
    "output-spec",
    "has-updates",
    "format-parameters",
    "execute",
];

pub(super) fn check(vib: &Vib, found: &mut Findings) {
    let bytes = vib.file(PLUGIN).map(|e| e.data.as_slice());
    let document = match document("esxcli's definition", bytes.unwrap_or_default()) {
        Ok(document) => document,
        Err(e) => return found.must(false, RULE, || format!("{PLUGIN}: {e}")),
    };
    let root = document.root_element();
    let name = root.tag_name();
    let known = name.namespace().is_some_and(|n| {
        n.starts_with("http://www.vmware.com/Products/ESX/") && n.ends_with("/esxcli/")
    });
    found.must(known && name.name() == "plugin", RULE, || {
        format!("{PLUGIN} is no definition of esxcli's")
    });
    let spaces: BTreeSet<&str> = child(root, "namespaces")
        .into_iter()
        .flat_map(elements)
        .filter_map(|n| n.attribute("path"))
        .collect();
    let commands: Vec<_> = child(root, "commands")
        .into_iter()
        .flat_map(elements)
        .collect();
    found.must(!commands.is_empty(), RULE, || {
        format!("{PLUGIN} has no commands")
    });
    let mut seen = BTreeSet::new();
    for command in commands {
        let path = command.attribute("path").unwrap_or_default();
        let space = path.rsplit_once('.').map_or("", |(space, _)| space);
        found.must(seen.insert(path) && spaces.contains(space), RULE, || {
            format!("command '{path}' is there twice, or in no name space")
        });
        one(vib, path, command, found);
    }
}

fn one(vib: &Vib, path: &str, command: Node<'_, '_>, found: &mut Findings) {
    let parts: Vec<_> = elements(command).map(|n| n.tag_name().name()).collect();
    let whole = parts == PARTS
        || parts
            .iter()
            .eq(PARTS.iter().filter(|p| **p != "has-updates"));
    found.must(whole, RULE, || {
        format!("{path} has {parts:?}, not {PARTS:?}")
    });
    let line = text(command, "execute");
    let program = line.split(' ').next().unwrap_or_default();
    let runs = program
        .strip_prefix('/')
        .and_then(|file| vib.file(file))
        .is_some_and(|file| file.mode & 0o111 != 0);
    found.must(runs, RULE, || {
        format!("{path} runs '{program}', which is no program of this package")
    });
    let parameters: Vec<_> = child(command, "input-spec")
        .into_iter()
        .flat_map(elements)
        .collect();
    let mut rest = line.to_owned();
    for parameter in parameters {
        let name = parameter.attribute("name").unwrap_or_default();
        let kind = parameter.attribute("type").unwrap_or_default();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        found.must(
            !name.is_empty() && name.bytes().all(plain) && KINDS.contains(&kind),
            RULE,
            || format!("{path}: parameter '{name}' of type '{kind}'"),
        );
        let said = match kind {
            "flag" => format!("--{name}"),
            _ => format!("--{name}='$val{{{name}}}'"),
        };
        let said = match parameter.attribute("required") {
            Some("true") => format!(" {said}"),
            _ => format!(" $if{{{name}, {said}}}"),
        };
        found.must(rest.contains(&said), RULE, || {
            format!("{path} does not hand on{said} in that form")
        });
        rest = rest.replacen(&said, "", 1);
    }
    // What is left is the program and words of ours: nothing that a value or a shell could mean.
    let word = |b: u8| b.is_ascii_alphanumeric() || b"/-_. ".contains(&b);
    found.must(rest.bytes().all(word), RULE, || {
        format!("{path} hands on more than it declares: {rest}")
    });
}
