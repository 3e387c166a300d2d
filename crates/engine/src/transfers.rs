//! Transfers that are under way: those this agent is at, and those it goes on with because nobody is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;
use vdvs_domain::Error;

use crate::api::{Actor, Teller};
use crate::inner::{Inner, locked};
use crate::moving_vms::is_final;

/// Another host's transfer is taken over when it was seen unchanged for so long.
const LEFT_ALONE: Duration = Duration::from_secs(20);
/// How often the documents are looked at for transfers to go on with.
const LOOK: Duration = Duration::from_secs(5);

/// The transfers this agent is at.
#[derive(Debug, Default, Clone)]
pub(crate) struct Transfers(Arc<Mutex<HashSet<Uuid>>>);

/// Says so of one, until dropped.
#[derive(Debug)]
pub(crate) struct Running(Transfers, Uuid);

impl Transfers {
    /// `None`: it is at it already.
    pub(crate) fn run(&self, id: Uuid) -> Option<Running> {
        locked(&self.0)
            .insert(id)
            .then(|| Running(self.clone(), id))
    }
}

impl Running {
    /// Which.
    pub(crate) const fn id(&self) -> Uuid {
        self.1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        locked(&self.0.0).remove(&self.1);
    }
}

impl Inner {
    /// Goes on with transfers that nobody is at, until dropped.
    pub(crate) async fn follow_transfers(self: &Arc<Self>) {
        loop {
            if let Err(why) = self.resume_transfers().await {
                self.said.once("transfers".to_owned(), &why.to_string());
            }
            sleep(LOOK).await;
        }
    }

    async fn resume_transfers(self: &Arc<Self>) -> Result<(), Error> {
        // A datastore that cannot be read is somebody else's subject.
        let homes = self.homes().await.unwrap_or_default();
        for (home, rules) in homes.iter().filter(|(_, r)| !r.kept) {
            for transfer in &rules.access.transfers {
                let subject = format!("transfer {} of {}", transfer.id, transfer.volumes.len());
                let Some(_running) = self.transfers.run(transfer.id) else {
                    continue;
                };
                let own = transfer.host == self.host;
                if !own && !self.is_ripe_for(&subject, LEFT_ALONE) {
                    continue;
                }
                tracing::info!(transfer = %transfer.id, "going on with a transfer that was left");
                let (who, teller) = (Actor::Reconciler, Teller::default());
                let run = self.transfer_steps(home, &who, rules.config, transfer.id, &teller);
                match Box::pin(run).await {
                    Err(why) if !is_final(&why) => return Err(why),
                    _ => self.said.well("transfers"),
                }
            }
        }
        Ok(())
    }
}
