//! Completions and manual pages, made from the command line's own description, so they never tell of another program.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use vdvs_domain::ErrorKind;

use crate::args::Cli;
use crate::failure::Failure;

/// Prints a shell's completions.
///
/// # Errors
/// [`Failure`]: standard output is gone.
pub fn completions(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "vdvs", &mut script);
    write(&script)?;
    Ok(0)
}

/// Prints a command's manual page, or writes the pages of all commands into a folder.
///
/// # Errors
/// [`Failure`]: there is no such command, or the folder cannot be written.
pub fn manual(command: &[String], folder: Option<&Path>) -> Result<u8, Failure> {
    let mut root = whole();
    if let Some(folder) = folder {
        return pages(&root, folder);
    }
    let mut found = &mut root;
    for word in command {
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            Failure::new(
                ErrorKind::NotFound,
                format!("there is no command {word}; vdvs --help lists those there are"),
            )
        })?;
    }
    write(&page(found.clone())?)?;
    Ok(0)
}

/// The command line with every command's full name filled in. Help is a page, not a command.
fn whole() -> Command {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

fn pages(root: &Command, folder: &Path) -> Result<u8, Failure> {
    let failed = |e: io::Error| {
        Failure::new(
            ErrorKind::InvalidArgument,
            format!("cannot write into {}: {e}", folder.display()),
        )
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut left = vec![root];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands());
        let name = format!("{}.1", page_name(command));
        fs::write(folder.join(name), page(command.clone())?).map_err(failed)?;
    }
    Ok(0)
}

/// `vdvs-volume-ls`
fn page_name(command: &Command) -> String {
    command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .replace(' ', "-")
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let name = page_name(&command);
    let mut page = Vec::new();
    Man::new(command)
        .title(name)
        .render(&mut page)
        .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot make a page: {e}")))?;
    Ok(page)
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    use io::Write;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            ErrorKind::Internal,
            format!("cannot write the answer: {e}"),
        )),
        _ => Ok(()),
    }
}
