//! The engine's face for the configuration as a whole.

use vdvs_domain::Error;

use crate::api::{Actor, LocalUser};
use crate::config::{ConfigChange, ConfigDone, ConfigShown, ConfigVerb};
use crate::engine::Engine;

impl Engine {
    /// What governs this host's datastores.
    ///
    /// # Errors
    /// When the host cannot list its datastores.
    pub async fn config_show(&self) -> Result<ConfigShown, Error> {
        Box::pin(self.0.config_show()).await
    }

    /// The last changes, newest first.
    ///
    /// # Errors
    /// When not exactly one configuration is followed.
    pub async fn config_history(&self) -> Result<Vec<ConfigChange>, Error> {
        Box::pin(self.0.config_history()).await
    }

    /// The configuration as JSON.
    ///
    /// # Errors
    /// As [`Engine::config_history`].
    pub async fn config_backup(&self) -> Result<String, Error> {
        Box::pin(self.0.config_backup()).await
    }

    /// Changes the configuration as a whole, or says what would be done.
    ///
    /// # Errors
    /// Refusals say what to run; an unsettled outcome is named as such.
    pub async fn config_change(
        &self,
        user: &LocalUser,
        verb: &ConfigVerb,
        dry_run: bool,
    ) -> Result<ConfigDone, Error> {
        let who = Actor::Admin(user);
        Box::pin(self.0.config_verb(&who, verb, dry_run)).await
    }
}
