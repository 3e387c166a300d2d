//! The verbs about the configuration as a whole.

use vdvs_domain::Error;

use super::{init, remove};
use crate::api::Actor;
use crate::config::{ConfigDone, ConfigVerb};
use crate::inner::Inner;

impl Inner {
    /// Does what is asked, or says what would be done.
    pub(crate) async fn config_verb(
        &self,
        who: &Actor<'_>,
        verb: &ConfigVerb,
        dry_run: bool,
    ) -> Result<ConfigDone, Error> {
        self.forget_governed();
        let done = match verb {
            ConfigVerb::Init {
                datastore,
                local,
                force,
            } => {
                let ask = init::Ask {
                    datastore: datastore.clone(),
                    local: *local,
                    force: *force,
                    dry_run,
                };
                Box::pin(self.config_init(who, &ask)).await
            }
            ConfigVerb::Remove {
                local,
                unlink,
                confirm,
                no_backup,
            } => {
                let ask = remove::Ask {
                    local: *local,
                    unlink: *unlink,
                    confirm: *confirm,
                    no_backup: *no_backup,
                    dry_run,
                };
                Box::pin(self.config_remove(who, ask)).await
            }
            ConfigVerb::Move { to, force } => {
                Box::pin(self.config_move(who, to, *force, dry_run)).await
            }
            ConfigVerb::Restore { json } => Box::pin(self.config_restore(who, json, dry_run)).await,
            ConfigVerb::Import {
                original,
                datastore,
            } => Box::pin(self.config_import(who, original, datastore.as_ref(), dry_run)).await,
        };
        self.forget_governed();
        done
    }
}
