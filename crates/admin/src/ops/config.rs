//! The configuration document.

use vdvs_api::v1;
use vdvs_api::v1::change_config_request::Change;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Changed, Config, ConfigChange, Tabular};

/// Where the configuration lies, and what governs which datastore.
///
/// # Errors
/// [`Failure`].
pub async fn show(agent: &mut Agent) -> Result<Config, Failure> {
    let reply = agent.show_config(v1::ShowConfigRequest {}).await?;
    Ok(Config::from(reply))
}

/// What was changed, newest first, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn history(
    agent: &mut Agent,
    arrangement: &Arrangement,
) -> Result<Vec<ConfigChange>, Failure> {
    let reply = agent.config_history(v1::ConfigHistoryRequest {}).await?;
    let list: Vec<_> = reply.changes.into_iter().map(ConfigChange::from).collect();
    let grid = list.grid();
    arrangement.apply(list, &grid)
}

/// The whole configuration, to be kept elsewhere.
///
/// # Errors
/// [`Failure`].
pub async fn backup(agent: &mut Agent) -> Result<String, Failure> {
    let reply = agent.backup_config(v1::BackupConfigRequest {}).await?;
    Ok(reply.json)
}

/// Changes where the configuration lies, or all of it. With `dry_run` the answer only says what would be done.
///
/// # Errors
/// [`Failure`].
pub async fn change(agent: &mut Agent, change: Change, dry_run: bool) -> Result<Changed, Failure> {
    let message = match (&change, dry_run) {
        (_, true) => "Nothing was changed: this is what would be done",
        (Change::Init(_), _) => "config init succeeded",
        (Change::Remove(_), _) => "config rm succeeded",
        (Change::Move(_), _) => "config mv succeeded",
        (Change::Restore(_), _) => "config restore succeeded",
        (Change::Import(_), _) => "config import succeeded",
    };
    let reply = agent
        .change_config(v1::ChangeConfigRequest {
            head: None,
            dry_run,
            change: Some(change),
        })
        .await?;
    Ok(Changed::new(message, reply))
}
