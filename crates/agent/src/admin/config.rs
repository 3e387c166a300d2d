//! The configuration document.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use uuid::Uuid;
use vdvs_api::{status, v1};
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};
use vdvs_engine::api::LocalUser;
use vdvs_engine::config::{ConfigChange, ConfigDatastore, ConfigDocument, ConfigVerb};
use vdvs_store::original;

use super::{AdminFront, count};
use crate::guests::Class;

/// What the original shows where there is nothing to show.
const NOT_THERE: &str = "N/A";

impl AdminFront {
    pub(super) async fn answer_show_config(
        &self,
        deadline: Instant,
        _wire: v1::ShowConfigRequest,
    ) -> Result<v1::ShowConfigReply, Status> {
        let shown = self.look(deadline, self.engine.config_show()).await?;
        let place = match shown.locations.is_empty() {
            true => NOT_THERE.to_owned(),
            false => shown.locations.join(", "),
        };
        // The document lies on a datastore either way; the words say who follows it.
        let (local_path, shared_location) = match shown.mode.as_str() {
            "SingleNode" => (place, NOT_THERE.to_owned()),
            _ => (NOT_THERE.to_owned(), place),
        };
        Ok(v1::ShowConfigReply {
            mode: shown.mode,
            local_path,
            shared_location,
            datastores: shown.datastores.into_iter().map(datastore).collect(),
            documents: shown.documents.into_iter().map(document).collect(),
        })
    }

    pub(super) async fn answer_config_history(
        &self,
        deadline: Instant,
        _wire: v1::ConfigHistoryRequest,
    ) -> Result<v1::ConfigHistoryReply, Status> {
        let changes = self.look(deadline, self.engine.config_history()).await?;
        let change = |c: ConfigChange| v1::ConfigChange {
            version: c.version,
            at_unix_ms: millis(c.at.millis()),
            who: c.who,
            host: c.host,
            what: c.what,
        };
        Ok(v1::ConfigHistoryReply {
            changes: changes.into_iter().map(change).collect(),
        })
    }

    pub(super) async fn answer_change_config(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::ChangeConfigRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let dry_run = wire.dry_run;
        let verb = verb(wire).map_err(|e| status::from_error(&e))?;
        let engine = Arc::clone(&self.engine);
        let change = |_| async move {
            let done = engine.config_change(&user, &verb, dry_run).await;
            match &done {
                Ok(done) => info!(dry_run, "administrator: configuration: {:?}", done.lines),
                Err(e) => info!(reason = %e.kind(), "administrator: configuration: {e}"),
            }
            done
        };
        let done = self
            .calls
            .change(&self.places, Class::Change, deadline, change);
        let done = done.await.map_err(|e| status::from_error(&e))?;
        Ok(v1::ChangeReply {
            lines: done.lines,
            warnings: done.warnings,
            work: None,
        })
    }

    pub(super) async fn answer_backup_config(
        &self,
        deadline: Instant,
        _wire: v1::BackupConfigRequest,
    ) -> Result<v1::BackupConfigReply, Status> {
        let json = self.look(deadline, self.engine.config_backup()).await?;
        Ok(v1::BackupConfigReply { json })
    }
}

fn verb(wire: v1::ChangeConfigRequest) -> Result<ConfigVerb, Error> {
    use v1::change_config_request::Change;
    let missing = || Error::Invalid {
        what: "change",
        problem: "says neither init, remove, move, restore nor import; name one".to_owned(),
    };
    Ok(match wire.change.ok_or_else(missing)? {
        Change::Init(init) => ConfigVerb::Init {
            datastore: named(&init.datastore)?,
            local: init.local,
            force: init.force,
        },
        Change::Remove(remove) => ConfigVerb::Remove {
            local: remove.local,
            unlink: remove.unlink,
            confirm: remove.confirm,
            no_backup: remove.no_backup,
        },
        Change::Move(to) => ConfigVerb::Move {
            to: DatastoreName::new(&to.to)?,
            force: to.force,
        },
        Change::Restore(restore) => ConfigVerb::Restore { json: restore.json },
        Change::Import(import) => ConfigVerb::Import {
            original: original::parse(&import.database).map_err(|why| ConfigFault::Refused {
                text: why.to_string(),
            })?,
            datastore: named(&import.datastore)?,
        },
    })
}

/// A datastore's name, where one was given.
fn named(text: &str) -> Result<Option<DatastoreName>, Error> {
    match text.is_empty() {
        true => Ok(None),
        false => Ok(Some(DatastoreName::new(text)?)),
    }
}

fn datastore(shown: ConfigDatastore) -> v1::ConfigDatastore {
    v1::ConfigDatastore {
        datastore: shown.datastore.into(),
        datastore_id: id(shown.id),
        config_id: id(shown.config),
        home: shown.home.map(String::from).unwrap_or_default(),
        state: shown.state.to_owned(),
        problem: shown.problem,
    }
}

fn document(shown: ConfigDocument) -> v1::ConfigDocument {
    let (changed_unix_ms, changed_by) = match shown.changed {
        Some((at, by)) => (millis(at.millis()), by),
        None => (0, String::new()),
    };
    v1::ConfigDocument {
        id: id(shown.id),
        home: shown.home.into(),
        version: shown.version,
        changed_unix_ms,
        changed_by,
        groups: count(shown.groups),
        policies: count(shown.policies),
        kept: shown.kept,
    }
}

fn id(uuid: Uuid) -> String {
    match uuid.is_nil() {
        true => String::new(),
        false => uuid.hyphenated().to_string(),
    }
}

fn millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
