//! `vdvs config`

use std::path::Path;

use vdvs_api::v1;
use vdvs_api::v1::change_config_request::Change;
use vdvs_domain::ErrorKind;

use super::changes::Changes;
use super::print::{Printer, stderr, stdout};
use super::{DECLINED, connect, files};
use crate::args::{ConfigCommand, Global};
use crate::failure::Failure;
use crate::ops::config;
use crate::render::{Text, printable};

pub(super) async fn run(
    command: &ConfigCommand,
    global: &Global,
    printer: &Printer,
) -> Result<u8, Failure> {
    let changes = Changes { global, printer };
    match command {
        ConfigCommand::Status => printer.print(&config::show(&mut connect(global).await?).await?),
        ConfigCommand::History(listing) => {
            let which = listing.arrangement()?;
            printer.print(&config::history(&mut connect(global).await?, &which).await?)
        }
        ConfigCommand::Backup { file } => backup(global, file.as_deref()).await,
        ConfigCommand::Init {
            datastore,
            local,
            force,
        } => {
            let init = Change::Init(v1::InitConfig {
                datastore: datastore.clone().unwrap_or_default(),
                local: *local,
                force: *force,
            });
            changes.config(init, false).await
        }
        ConfigCommand::Mv { word, to, force } => {
            let both = to.iter().chain(word).count() > 1;
            let to = to.as_ref().or(word.as_ref()).filter(|_| !both);
            let to = to.ok_or_else(|| {
                Failure::new(
                    ErrorKind::InvalidArgument,
                    "name one datastore: vdvs config mv --to=DATASTORE",
                )
            })?;
            let to = to.clone();
            changes
                .config(Change::Move(v1::MoveConfig { to, force: *force }), false)
                .await
        }
        ConfigCommand::Rm { .. } => remove(command, changes).await,
        ConfigCommand::Restore { file, dry_run } => {
            let json = text(file)?;
            let restore = Change::Restore(v1::RestoreConfig { json });
            let question = "Replace the configuration by this one?";
            changes.tried(restore, *dry_run, question).await
        }
        ConfigCommand::Import {
            file,
            datastore,
            dry_run,
        } => {
            let import = Change::Import(v1::ImportConfig {
                database: files::read(file)?,
                datastore: datastore.clone().unwrap_or_default(),
            });
            changes.tried(import, *dry_run, "Import all of this?").await
        }
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(files::read(file)?).map_err(|_| {
        Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "{} is no backup of a configuration: it is not text. A database of the original is taken over with: vdvs config import",
                file.display()
            ),
        )
    })
}

async fn backup(global: &Global, file: Option<&Path>) -> Result<u8, Failure> {
    let Some(path) = file else {
        let json = config::backup(&mut connect(global).await?).await?;
        stdout(&(json.trim_end().to_owned() + "\n"))?;
        return Ok(0);
    };
    let file = files::New::create(path)?;
    let json = config::backup(&mut connect(global).await?).await?;
    file.write(&json)?;
    let shown = printable(&path.display().to_string());
    stderr(&format!(
        "written to {shown}; put it back with: vdvs config restore {shown}\n"
    ));
    Ok(0)
}

async fn remove(command: &ConfigCommand, changes: Changes<'_>) -> Result<u8, Failure> {
    let ConfigCommand::Rm {
        local,
        unlink,
        confirm,
        no_backup,
    } = command
    else {
        return Ok(0);
    };
    // The original's own flag is a yes; asking again would stop its scripts.
    let confirmed = *confirm || changes.global.yes;
    if !confirmed {
        if !changes.can_ask() {
            return Err(Failure::new(
                ErrorKind::InvalidArgument,
                "Warning: For extra safety, removal operation requires '--confirm' flag. Nothing was changed",
            ));
        }
        let question = "Remove the configuration? Its datastores are closed to all VMs until there is another.";
        if !changes.agreed(question)? {
            return Ok(DECLINED);
        }
    }
    let remove = Change::Remove(v1::RemoveConfig {
        local: *local,
        unlink: *unlink,
        confirm: true,
        no_backup: *no_backup,
    });
    changes.config(remove, false).await
}

impl Changes<'_> {
    async fn config(&self, change: Change, dry_run: bool) -> Result<u8, Failure> {
        let mut agent = connect(self.global).await?;
        let changed = config::change(&mut agent, change, dry_run).await;
        self.end(&mut agent, changed).await
    }

    /// Shows what would be done, asks, and does it.
    async fn tried(&self, change: Change, only: bool, question: &str) -> Result<u8, Failure> {
        if only || self.global.yes {
            return self.config(change, only).await;
        }
        self.askable("change the configuration")?;
        let mut agent = connect(self.global).await?;
        let plan = config::change(&mut agent, change.clone(), true).await?;
        stderr(&plan.text(None));
        if !self.agreed(question)? {
            return Ok(DECLINED);
        }
        let changed = config::change(&mut agent, change, false).await;
        self.end(&mut agent, changed).await
    }
}
