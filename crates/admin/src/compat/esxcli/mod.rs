//! esxcli's back end: `vdvs esxcli <name spaces> <command> --option value`, answered in the XML that esxcli reads.
//!
//! The answer is always one document on standard output, for a failure too: esxcli shows nothing when a program prints
//! nothing. The exit code tells which failure it was (`docs/error-codes.md`). Nobody is asked and nothing is waited for:
//! what would be asked needs `--yes`, and long work is started here and looked at with `work show`.
//!
//! | module | concept |
//! |---|---|
//! | `commands` | all commands with their parameters and answers |
//! | `arguments` | the words of a command line |
//! | `answer` | commands the original did not have |
//! | `plugin` | the definition esxcli reads |

mod answer;
mod arguments;
mod commands;
mod plugin;

use vdvs_domain::ErrorKind;

pub use self::plugin::definition;

use self::arguments::Values;
use self::commands::{Command, How, Shape, YES, all, find};
use super::script::Said;
use super::verbs::{self, Report};
use super::{Connection, rows, tree, xml};
use crate::failure::Failure;
use crate::view::Work;

/// Prints the plug-in's definition, for packaging.
const DEFINITION: &str = "--plugin-definition";

/// Runs the back end with the words behind `esxcli`.
pub(crate) fn run(words: &[String], connection: &Connection) -> Said {
    if words.first().is_some_and(|w| w == DEFINITION) {
        let program = words.get(1).map_or(plugin::PROGRAM, String::as_str);
        return Said {
            out: definition(program),
            ..Said::default()
        };
    }
    let done = read(words).and_then(|(command, words)| {
        let values = arguments::read(&command, words).map_err(mistake)?;
        connection.block_on(answer(&command, values, connection))
    });
    match done {
        Ok(out) => Said {
            out,
            ..Said::default()
        },
        Err(failure) => Said {
            out: xml::message(&format!("ERROR:{}", failure.text)),
            code: failure.exit_code(),
            ..Said::default()
        },
    }
}

fn mistake(text: String) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, text)
}

fn read(words: &[String]) -> Result<(Command, &[String]), Failure> {
    let commands = all();
    if let Some((command, rest)) = find(&commands, words) {
        return Ok((command.clone(), rest));
    }
    let names: Vec<_> = commands.iter().map(|c| c.path.join(" ")).collect();
    let said: Vec<_> = words
        .iter()
        .take_while(|w| !w.starts_with('-'))
        .map(String::as_str)
        .collect();
    let said = said.join(" ");
    Err(mistake(format!(
        "there is no command '{said}'; there are: {}",
        names.join(", ")
    )))
}

async fn answer(
    command: &Command,
    values: Values<'_>,
    connection: &Connection,
) -> Result<String, Failure> {
    let values = allowed(command, values)?;
    let report = match command.how {
        How::Original(verb) => {
            let given = arguments::given(&verb, &values);
            let agent = connection.agent().await;
            match agent {
                // A stopped service is something that `status` can show.
                Err(_) if verb.act == tree::Act::Status => {
                    Report::Message(rows::status(None, given.has("fast")))
                }
                agent => verbs::run(&mut agent?, &verb, &given).await?,
            }
        }
        How::Own => {
            let cli = arguments::cli(command, &values).map_err(mistake)?;
            answer::answer(&mut connection.agent().await?, &cli.command).await?
        }
    };
    Ok(document(&command.shape, &report))
}

/// The values, when the command may be run with them. Where `vdvs` asks a person, `--yes` must have been said.
fn allowed<'a>(command: &Command, values: Values<'a>) -> Result<Values<'a>, Failure> {
    let (yes, values): (Values<'_>, Values<'_>) =
        values.into_iter().partition(|(p, _)| p.name == YES);
    let said = |name: &str| values.iter().any(|(p, _)| p.name == name);
    let asks = match command.path.join(" ").as_str() {
        "volume rm" => true,
        "volume detach" => said("force"),
        "config restore" | "config import" => !said("dry-run"),
        _ => false,
    };
    if asks && yes.is_empty() {
        return Err(mistake(format!(
            "nobody can be asked here; nothing was done. Say --{YES} to do it"
        )));
    }
    Ok(values)
}

fn document(shape: &Shape, report: &Report) -> String {
    match (report, shape) {
        // The fields as the definition names them.
        (Report::Table { rows, .. }, Shape::List(fields, _)) => xml::list(fields, rows),
        (Report::Table { header, rows, .. }, Shape::Message) => xml::list(header, rows),
        (Report::Message(lines), _) => xml::message(&lines.join("\n")),
        (Report::Changed(changed), _) => {
            let mut lines = verbs::lines(changed);
            if let Some(work) = changed.work.as_ref().filter(|w| w.runs()) {
                // Not done yet: the sentence of success would be too early.
                lines.retain(|line| *line != changed.message);
                lines.push(goes_on(work));
            }
            xml::message(&lines.join("\n"))
        }
    }
}

fn goes_on(work: &Work) -> String {
    format!(
        "'{}' goes on; see how far it is with: esxcli storage guestvol work show --id={}",
        work.what, work.id
    )
}

#[cfg(test)]
mod tests;
