//! The plug-in's definition: what esxcli reads at start to know the commands, their parameters, and the program to run.
//! It is written from the same list that the back end reads its arguments by, so the two cannot differ.
//!
//! esxcli puts values into the line it runs as text, so each stands between single quotes. A value that holds a single
//! quote itself ends them early; that cannot be mended from here (ADR 0077), and whoever may run esxcli is root already.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::super::tree::{Node, TREE, Takes};
use super::super::xml::{STRUCTURE, escape};
use super::commands::{Command, Parameter, Shape, all};
use crate::args::Cli;

/// Where the commands hang in esxcli's tree.
pub(crate) const ROOT: &str = "storage.guestvol";
/// Where a host has the program.
pub(crate) const PROGRAM: &str = "/opt/vdvs/bin/vdvs";

const NAMESPACE: &str = "http://www.vmware.com/Products/ESX/6.0/esxcli/";

/// The definition, for a host that has the program at this path.
#[must_use]
pub fn definition(program: &str) -> String {
    let commands = all();
    let mut out = format!(
        "<?xml version=\"1.0\"?>\n<plugin xmlns=\"{NAMESPACE}\">\n\t<version>1.0.0</version>\n\t<namespaces>\n"
    );
    for (path, about) in name_spaces(&commands) {
        out += &format!(
            "\t\t<namespace path=\"{}\">\n\t\t\t<description>{}</description>\n\t\t</namespace>\n",
            escape(&path),
            escape(&about)
        );
    }
    out += "\t</namespaces>\n\t<commands>\n";
    for c in &commands {
        out += &command(c, program);
    }
    out + "\t</commands>\n</plugin>\n"
}

/// Every name space with what it is about, the upper ones first.
fn name_spaces(commands: &[Command]) -> Vec<(String, String)> {
    let above = |c: &Command| -> Vec<Vec<String>> {
        (1..c.path.len())
            .map(|n| c.path.iter().take(n).cloned().collect())
            .collect()
    };
    let paths: BTreeSet<Vec<String>> = commands.iter().flat_map(above).collect();
    let root = (
        ROOT.to_owned(),
        "Manage the volumes of containers in virtual machines".to_owned(),
    );
    let below = paths
        .into_iter()
        .map(|path| (format!("{ROOT}.{}", path.join(".")), about(&path)));
    [root].into_iter().chain(below).collect()
}

fn about(path: &[String]) -> String {
    let mut nodes = TREE;
    let mut found = None;
    for name in path {
        match nodes.iter().find(|n| n.name() == name) {
            Some(node @ Node::Group { nodes: below, .. }) => {
                (nodes, found) = (below, Some(node.about()));
            }
            _ => found = None,
        }
    }
    if let Some(about) = found {
        return about.to_owned();
    }
    let cli = Cli::command();
    let command = path
        .iter()
        .try_fold(&cli, |c, name| c.find_subcommand(name));
    command
        .and_then(|c| c.get_about())
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn command(c: &Command, program: &str) -> String {
    let mut out = format!(
        "\t\t<command path=\"{ROOT}.{}\">\n\t\t\t<description>{}</description>\n\t\t\t<input-spec>\n",
        escape(&c.path.join(".")),
        escape(&c.about)
    );
    for p in &c.parameters {
        out += &format!(
            "\t\t\t\t<parameter name=\"{}\" type=\"{}\" required=\"{}\">\n\
             \t\t\t\t\t<description>{}</description>\n\t\t\t\t</parameter>\n",
            escape(&p.name),
            kind(p.takes),
            p.required,
            escape(&p.about)
        );
    }
    out += "\t\t\t</input-spec>\n\t\t\t<output-spec>\n";
    out += &output(&c.shape);
    out += "\t\t\t</output-spec>\n\t\t\t<has-updates value=\"true\"/>\n\t\t\t<format-parameters>\n";
    out += &match &c.shape {
        Shape::List(_, shown) => format!(
            "\t\t\t\t<formatter>table</formatter>\n\
             \t\t\t\t<format-parameter name=\"fields:{STRUCTURE}\">{}</format-parameter>\n",
            escape(&shown.join(","))
        ),
        Shape::Message => "\t\t\t\t<formatter>simple</formatter>\n".to_owned(),
    };
    let line = execute(c, program);
    out + &format!(
        "\t\t\t</format-parameters>\n\t\t\t<execute>{}</execute>\n\t\t</command>\n",
        escape(&line)
    )
}

const fn kind(takes: Takes) -> &'static str {
    match takes {
        Takes::Text(_) | Takes::Columns => "string",
        Takes::Truth => "bool",
        Takes::Nothing => "flag",
    }
}

fn output(shape: &Shape) -> String {
    let Shape::List(fields, _) = shape else {
        return "\t\t\t\t<string/>\n".to_owned();
    };
    let mut out = format!(
        "\t\t\t\t<list type=\"structure\">\n\t\t\t\t\t<structure typeName=\"{STRUCTURE}\">\n"
    );
    for field in fields {
        let field = escape(field);
        out += &format!(
            "\t\t\t\t\t\t<field name=\"{field}\">\n\t\t\t\t\t\t\t<string/>\n\t\t\t\t\t\t</field>\n"
        );
    }
    out + "\t\t\t\t\t</structure>\n\t\t\t\t</list>\n"
}

fn execute(c: &Command, program: &str) -> String {
    let mut line = format!("{program} esxcli {}", c.path.join(" "));
    for p in &c.parameters {
        let Parameter {
            name,
            takes,
            required,
            ..
        } = p;
        let said = match takes {
            Takes::Nothing => format!("--{name}"),
            _ => format!("--{name}='$val{{{name}}}'"),
        };
        line += &if *required {
            format!(" {said}")
        } else {
            format!(" $if{{{name}, {said}}}")
        };
    }
    line
}
