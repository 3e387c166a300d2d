//! `vdvs audit`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vdvs_api::v1;

use crate::failure::Failure;
use crate::time;

/// What to do with the audit.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List changes and denials, newest first
    Ls {
        /// Which
        #[command(flatten)]
        question: AuditQuestion,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
        /// Only those older than the one with this number
        #[arg(
            long,
            value_name = "NUMBER",
            default_value_t = 0,
            hide_default_value = true
        )]
        before: u64,
    },
    /// Print all of them, oldest first; a JSON object per line unless --output says otherwise
    Export {
        /// Which
        #[command(flatten)]
        question: AuditQuestion,
        /// Write to this file, which must not exist yet
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Which rows.
#[derive(Debug, Args)]
pub struct AuditQuestion {
    /// From then on: 2026-11-21, 2026-11-21T08:00:00Z, or how long ago: 90s, 15m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only of whoever has this in his name: a VM's name or instance UUID, a user's name
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub who: String,
    /// Only what was done has this in its name
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub verb: String,
    /// Only what it was done to has this in its name
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub object: String,
    /// Only denials
    #[arg(long)]
    pub denials: bool,
}

impl AuditQuestion {
    /// The agent's message.
    ///
    /// # Errors
    /// [`Failure`]: a time that is none.
    pub fn message(&self) -> Result<v1::ListAuditRequest, Failure> {
        let read = |text: &Option<String>| text.as_deref().map_or(Ok(0), time::parse);
        Ok(v1::ListAuditRequest {
            since_unix_ms: read(&self.since)?,
            until_unix_ms: read(&self.until)?,
            who: self.who.clone(),
            verb: self.verb.clone(),
            object: self.object.clone(),
            denials_only: self.denials,
            before: 0,
            limit: 0,
        })
    }
}
