//! The arguments of a command, each an element of its own: `--name=value`, or `--name` and the value behind it. Nothing
//! is split, joined or expanded, so a value may hold blanks, quotes, `=` and whatever a shell would take for itself.

use clap::Parser;

use super::super::argparse::Given;
use super::super::tree::{Takes, Verb};
use super::commands::{Command, Parameter};
use crate::args::Cli;

/// Names and values; a flag has none.
pub(crate) type Values<'a> = Vec<(&'a Parameter, Option<String>)>;

/// Reads the words behind the command's name.
///
/// # Errors
/// What is wrong, and what there is instead.
pub(crate) fn read<'a>(command: &'a Command, words: &[String]) -> Result<Values<'a>, String> {
    let mut values: Values<'a> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let typed = word
            .strip_prefix("--")
            .ok_or_else(|| unknown(command, word))?;
        let (name, attached) = match typed.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (typed, None),
        };
        let parameter = command.parameters.iter().find(|p| p.name == name);
        let parameter = parameter.ok_or_else(|| unknown(command, word))?;
        if values.iter().any(|(p, _)| p.name == name) {
            return Err(format!("--{name} is given twice"));
        }
        match (parameter.takes, attached) {
            (Takes::Nothing, None) => values.push((parameter, None)),
            (Takes::Nothing, Some(value)) => match truth(value) {
                Some(true) => values.push((parameter, None)),
                Some(false) => {}
                None => {
                    return Err(format!(
                        "--{name} is a flag; it takes true or false, not '{value}'"
                    ));
                }
            },
            (takes, attached) => {
                let value = attached.or_else(|| rest.next().map(String::as_str));
                let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
                values.push((parameter, Some(spelled(takes, value))));
            }
        }
    }
    let missing = |p: &&Parameter| p.required && !values.iter().any(|(v, _)| v.name == p.name);
    let missing: Vec<_> = command
        .parameters
        .iter()
        .filter(missing)
        .map(|p| format!("--{}", p.name))
        .collect();
    if missing.is_empty() {
        return Ok(values);
    }
    Err(format!(
        "{} is missing; {}",
        missing.join(", "),
        there_is(command)
    ))
}

fn unknown(command: &Command, word: &str) -> String {
    format!("'{word}' is not known here; {}", there_is(command))
}

fn there_is(command: &Command) -> String {
    let names: Vec<_> = command
        .parameters
        .iter()
        .map(|p| format!("--{}", p.name))
        .collect();
    let path = command.path.join(" ");
    if names.is_empty() {
        format!("{path} takes nothing")
    } else {
        format!("{path} takes {}", names.join(", "))
    }
}

/// The ways in which esxcli and people write booleans.
fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A truth value as the agent knows it. What is none goes on as it is: the agent refuses it in its own words.
fn spelled(takes: Takes, value: &str) -> String {
    match truth(value).filter(|_| takes == Takes::Truth) {
        Some(true) => "True".to_owned(),
        Some(false) => "False".to_owned(),
        None => value.to_owned(),
    }
}

/// The values as the original's options.
pub(crate) fn given(verb: &Verb, values: &Values<'_>) -> Given {
    let mut given = Given::default();
    for option in verb.options {
        let found = values.iter().find(|(p, _)| p.name == option.name);
        if let Some((_, value)) = found {
            given.push(option.name, value.clone().unwrap_or_default());
        }
    }
    given
}

/// The values as `vdvs` reads them: flags with their values attached, then the words.
///
/// # Errors
/// What `vdvs` finds wrong.
pub(crate) fn cli(command: &Command, values: &Values<'_>) -> Result<Cli, String> {
    let mut line = vec!["vdvs".to_owned()];
    line.extend(command.path.iter().cloned());
    let (words, flags): (Vec<_>, Vec<_>) = values.iter().partition(|(p, _)| p.positional);
    line.extend(flags.into_iter().map(|(p, value)| match value {
        Some(value) => format!("--{}={value}", p.name),
        None => format!("--{}", p.name),
    }));
    if !words.is_empty() {
        line.push("--".to_owned());
        // In the order of the table, which is the command line's.
        for parameter in command.parameters.iter().filter(|p| p.positional) {
            let found = words.iter().find(|(p, _)| p.name == parameter.name);
            line.extend(found.and_then(|(_, value)| value.clone()));
        }
    }
    Cli::try_parse_from(line).map_err(|e| {
        let text = e.to_string();
        let first = text.lines().next().unwrap_or_default();
        format!(
            "{}; {}",
            first.trim_start_matches("error: "),
            there_is(command)
        )
    })
}
