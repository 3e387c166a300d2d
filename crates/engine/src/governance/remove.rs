//! `config rm`: the configuration goes, and access is closed on every datastore that followed it, at once.
//!
//! One swap of the document does it; the markers stay, so no datastore is ever taken for a fresh one, and a removed
//! configuration never leaves anything open (docs/adr/0056).

use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::backup::Backup;
use super::document::{Document, Standing};
use super::init::refused;
use super::state::{Stand, location};
use crate::api::Actor;
use crate::config::ConfigDone;
use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ports::StorageError;

/// What `config rm` is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) local: bool,
    pub(super) unlink: bool,
    pub(super) confirm: bool,
    pub(super) no_backup: bool,
    pub(super) dry_run: bool,
}

impl Inner {
    pub(super) async fn config_remove(
        &self,
        who: &Actor<'_>,
        ask: Ask,
    ) -> Result<ConfigDone, Error> {
        if ask.local == ask.unlink {
            return Err(refused(
                "Error: one of '--local' or '--unlink' has to be set: '--local' when this host alone follows the configuration (SingleNode), '--unlink' when others do (MultiNode); see: vdvs config status",
            ));
        }
        if !ask.confirm && !ask.dry_run {
            return Err(refused(
                "Warning: For extra safety, removal operation requires '--confirm' flag.",
            ));
        }
        let (home, rules) = self.one_home().await?;
        let document = self.newest_of(&rules).await.ok_or_else(|| {
            Error::from(ConfigFault::HomeUnavailable {
                home: home.clone(),
                why: "it cannot be read".to_owned(),
            })
        })?;
        let mode = self.config_mode().await;
        let (is, flag) = match mode.as_str() {
            "SingleNode" => ("SingleNode: this host alone follows it", "--local"),
            _ => ("MultiNode: other hosts follow it, too", "--unlink"),
        };
        if ask.local != (flag == "--local") {
            return Err(refused(format!(
                "the configuration on {home} is {is}; remove it with: vdvs config rm {flag} --confirm"
            )));
        }
        let mut done = ConfigDone::default();
        let followers = self.followers(&document).await;
        let closed = format!("Access is closed on {}", followers.join(", "));
        if ask.dry_run {
            done.lines.push(format!("Removed link {}", location(&home)));
            done.lines.push(closed);
            return Ok(done);
        }
        if !ask.no_backup {
            let backup = self.leave_backup(&home, &document).await?;
            let from = location(&home);
            done.lines
                .push(format!("Moved {from} to backup file {backup}"));
        }
        self.change_document(&home, who, |document| {
            document.standing = Standing::Removed;
            document.access.groups.clear();
            document.access.policies.clear();
            Ok(((), "removed".to_owned()))
        })
        .await?;
        done.lines.push(format!("Removed link {}", location(&home)));
        done.lines.push(closed);
        done.warnings.push(format!(
            "it is removed for every host. Bring it back with: vdvs config restore FILE; or make a new one, which is open to all, with: vdvs config init --datastore {home} --force"
        ));
        Ok(done)
    }

    /// The datastores this host sees that follow the document.
    async fn followers(&self, document: &Document) -> Vec<String> {
        let mut names = Vec::new();
        for info in self.datastores().await.unwrap_or_default() {
            if info.accessible
                && let Ok(Stand::Follows(rules)) = self.stand_of(&info.name).await
                && rules.config == document.id
            {
                names.push(info.name.to_string());
            }
        }
        names
    }

    /// A backup beside the document; returns its path.
    async fn leave_backup(
        &self,
        home: &DatastoreName,
        document: &Document,
    ) -> Result<String, Error> {
        let json = Backup::of(document, home, self.now()).to_json()?;
        let name = format!("config-backup.{}.json", document.version);
        let failed = |why: StorageError| unavailable(home, &why);
        let path = layout::own_dir()
            .join(&name)
            .map_err(|why| Error::Internal(why.to_string()))?;
        let store = &*self.ports.datastores;
        match store.create_new(home, &path).await {
            // The same version was backed up by an attempt before: the same content.
            Ok(()) | Err(StorageError::AlreadyExists(_)) => {}
            Err(why) => return Err(failed(why)),
        }
        store
            .write(home, &path, json.as_bytes())
            .await
            .map_err(failed)?;
        Ok(format!("/vmfs/volumes/{home}/{path}"))
    }
}
