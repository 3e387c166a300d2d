//! `vdvs policy`

use clap::{Args, Subcommand};

use super::listing::Listing;
use super::words::{fill, required};
use crate::failure::Failure;

/// What to do with vSAN policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Make a policy that volumes on vSAN can name
    Create(PolicyText),
    /// Change a policy, and apply it to the volumes that name it
    Update(PolicyText),
    /// Remove a policy that no volume names
    Rm(PolicyName),
    /// List the policies and how many volumes name them
    Ls(Listing),
}

/// A policy.
#[derive(Debug, Args)]
pub struct PolicyName {
    /// The policy
    #[arg(value_name = "POLICY", required_unless_present = "name")]
    pub word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "POLICY")]
    pub name: Option<String>,
}

impl PolicyName {
    /// Its name.
    ///
    /// # Errors
    /// [`Failure`]: it is named twice.
    pub fn get(&self) -> Result<String, Failure> {
        let [name] = fill([self.name.clone()], self.word.clone())?;
        required(name, "POLICY")
    }
}

/// A policy and what it says.
#[derive(Debug, Args)]
pub struct PolicyText {
    /// Which
    #[command(flatten)]
    pub policy: PolicyName,
    /// What it says, for example (("hostFailuresToTolerate" i1))
    #[arg(value_name = "CONTENT")]
    pub content_word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "CONTENT")]
    pub content: Option<String>,
}

impl PolicyText {
    /// Name and content.
    ///
    /// # Errors
    /// [`Failure`]: one is missing, or there is a word too many.
    pub fn get(&self) -> Result<(String, String), Failure> {
        let flags = [self.policy.name.clone(), self.content.clone()];
        let words = self.policy.word.iter().chain(&self.content_word).cloned();
        let [name, content] = fill(flags, words)?;
        Ok((required(name, "POLICY")?, required(content, "CONTENT")?))
    }
}
