//! Get, List and Path: what is said, and what is not, while the agent cannot be asked (promise P4).
//!
//! | the agent says | the name was seen before | never seen |
//! |---|---|---|
//! | the volume | live | live |
//! | not found, or no such name can exist | error, and forgotten | error |
//! | access denied | stale | error |
//! | it exists, but (ambiguous, damaged, newer) | stale | shown with the problem |
//! | anything else, or nothing | stale | wait, then drop the connection |

use std::path::PathBuf;
use std::slice;

use tokio::time::Instant;
use tracing::{debug, info};
use vdvs_domain::{ErrorKind, VolumeAddress};

use super::mount::advise;
use super::status::View;
use super::{Failure, Volumes};
use crate::agent::{Agent, AgentError, Volume};
use crate::clock::age;

/// What is known of a name.
enum Found {
    Live(Box<Volume>),
    /// From the journal, this many milliseconds old.
    Stale(Box<Volume>, u64),
    /// It exists, but cannot be described.
    Problem(String),
}

impl Volumes {
    /// Describes a volume.
    ///
    /// # Errors
    /// [`Failure::Said`] only if it certainly does not exist; [`Failure::Unknown`] while nobody can say.
    pub async fn get(&self, name: &str) -> Result<View, Failure> {
        Ok(match self.find(name).await? {
            Found::Live(volume) => self.view(name, &volume, None),
            Found::Stale(volume, stale_for) => self.view(name, &volume, Some(stale_for)),
            Found::Problem(text) => View::problem(name, &text),
        })
    }

    /// Where the volume's data is, or will be once it is mounted.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        match self.find(name).await? {
            Found::Live(volume) => Ok(self.mountpoint(volume.id, volume.layout)),
            Found::Stale(volume, _) => Ok(self.mountpoint(volume.id, volume.layout)),
            Found::Problem(text) => Err(Failure::Said(text)),
        }
    }

    async fn find(&self, name: &str) -> Result<Found, Failure> {
        if name.is_empty() {
            // dockerd asks this when it starts with a container that survived it; the original's words.
            return Err(Failure::Said(
                " No volume with name as empty string exists".into(),
            ));
        }
        let address = VolumeAddress::parse(name)
            .map_err(|e| Failure::Said(format!("Volume {name} not found: {e}")))?;
        let known = self.known(&address);
        let now = Instant::now();
        let deadline = match (&known, self.agent_is_up()) {
            (Some(_), false) => now + self.limits().away,
            _ => now + self.limits().hold,
        };
        let error = match self.agent().get(&address.to_string(), deadline).await {
            Ok(volume) => {
                let short = address.datastore.is_none().then_some(volume.id);
                self.learn(slice::from_ref(&volume), short).await;
                return Ok(Found::Live(Box::new(volume)));
            }
            Err(e) => e,
        };
        if error.kind() == Some(ErrorKind::NotFound) {
            self.forget_name(&address).await;
            return Err(Failure::Said(error.to_string()));
        }
        if let Some((volume, seen)) = known {
            info!(volume = name, why = %error, "answered from the journal");
            return Ok(Found::Stale(Box::new(volume), seen));
        }
        match error.kind() {
            Some(ErrorKind::InvalidArgument | ErrorKind::PermissionDenied) => {
                Err(Failure::Said(error.to_string()))
            }
            Some(ErrorKind::Ambiguous | ErrorKind::Damaged | ErrorKind::NewerFormat) => {
                Ok(Found::Problem(error.to_string()))
            }
            _ => Err(Failure::Unknown(advise(&address, &error))),
        }
    }

    fn known(&self, address: &VolumeAddress) -> Option<(Volume, u64)> {
        let now = self.inner.ports.clock.now();
        self.book()
            .known_named(address)
            .map(|known| (known.volume.clone(), age(known.seen, now)))
    }

    /// A fresh look found nothing under this name.
    pub(super) async fn forget_name(&self, address: &VolumeAddress) {
        let gone = self.book().known_named(address).map(|k| k.volume.id);
        if let Some(gone) = gone {
            self.forget(&[gone]).await;
        }
    }

    /// All volumes, under their full names.
    ///
    /// # Errors
    /// None: without the agent the journal answers.
    pub async fn list(&self) -> Result<Vec<View>, Failure> {
        let wait = if self.agent_is_up() {
            self.limits().hold
        } else {
            self.limits().away
        };
        let fresh = self.refresh(Instant::now() + wait).await;
        let now = self.inner.ports.clock.now();
        let book = self.book();
        let entries: Vec<(Volume, Option<u64>)> = match fresh {
            Ok(live) => {
                let unseen = book
                    .known
                    .values()
                    .filter(|known| !live.iter().any(|v| v.id == known.volume.id))
                    .map(|known| (known.volume.clone(), Some(age(known.seen, now))));
                let unseen: Vec<_> = unseen.collect();
                live.into_iter()
                    .map(|volume| (volume, None))
                    .chain(unseen)
                    .collect()
            }
            Err(e) => {
                info!(why = %e, "volumes listed from the journal");
                book.known
                    .values()
                    .map(|known| (known.volume.clone(), Some(age(known.seen, now))))
                    .collect()
            }
        };
        drop(book);
        Ok(entries
            .into_iter()
            .map(|(volume, stale)| self.view(&volume.full_name().to_string(), &volume, stale))
            .collect())
    }

    /// Asks for all volumes and remembers them. A complete answer also says what does not exist any more.
    pub(super) async fn refresh(&self, deadline: Instant) -> Result<Vec<Volume>, AgentError> {
        let asked = self.inner.ports.clock.now();
        let listing = Agent::list(self.agent(), deadline).await?;
        self.learn(&listing.volumes, None).await;
        if listing.unreadable.is_empty() {
            let gone = self.book().missing_from(&listing.volumes, asked);
            self.forget(&gone).await;
        } else {
            debug!(datastores = ?listing.unreadable, "not every datastore could be read; nothing is forgotten");
        }
        // Also what a full disk did not take before.
        self.write_known().await;
        Ok(listing.volumes)
    }
}
