//! Moving the document to another home.
//!
//! ```text
//!   1. at the old home: Moving{to}              nobody changes it any more; readers go on reading it here
//!   2. at the new home: the document itself     a version higher
//!   3. at the old home: Moved{to}               from here on everybody reads it there
//!   4. the markers name the new home            by every agent, for the datastores it sees
//! ```
//! Any agent may finish a move at any step, twice, and whoever wants to change the document does it first. So a host
//! that dies between two steps stops nothing, and no change is made on a copy that is about to be left.

use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use crate::inner::Inner;
use crate::layout;
use crate::ports::StorageError;
use crate::swap::Swapped;

const ATTEMPTS: usize = 20;

impl Inner {
    /// Finishes the move that the document on `home` says is under way, if one is.
    pub(super) async fn finish_move(&self, home: &DatastoreName) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let (seen, Some(mut document)) = self.read_document(home).await? else {
                return Ok(());
            };
            let Standing::Moving { to } = document.standing.clone() else {
                return Ok(());
            };
            self.arrive(home, &document, &to).await?;
            document.standing = Standing::Moved {
                config: document.id,
                home: to.clone(),
            };
            document.version = document.version.saturating_add(1);
            let bytes = document.encode()?;
            let store = &*self.ports.datastores;
            let swapped = layout::config(home).swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(home, &why))? {
                tracing::info!(from = %home, %to, "the configuration moved");
                self.forget_governed();
                return Ok(());
            }
        }
        Err(unavailable(home, "other hosts kept changing it first").into())
    }

    /// Puts the document on its new home, unless it is there already.
    async fn arrive(
        &self,
        home: &DatastoreName,
        document: &Document,
        to: &DatastoreName,
    ) -> Result<(), Error> {
        let store = &*self.ports.datastores;
        let made = store.make_dir(to, &layout::own_dir()).await;
        made.map_err(|why: StorageError| unavailable(to, &why))?;
        for _ in 0..ATTEMPTS {
            let (seen, there) = self.read_document(to).await?;
            let mut next = document.clone();
            next.standing = Standing::InForce;
            next.version = document.version.saturating_add(1);
            if let Some(there) = &there {
                if there.id == document.id && there.version >= next.version {
                    return Ok(());
                }
                if there.id != document.id && there.is_in_force() {
                    return Err(ConfigFault::Refused {
                        text: format!(
                            "datastore {to} is the home of another configuration; put it under this one first with: vdvs config init --datastore {home} --force"
                        ),
                    }
                    .into());
                }
                next.datastore = there.datastore;
                next.absorb(there);
            }
            let bytes = next.encode()?;
            let swapped = layout::config(to).swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(to, &why))? {
                return Ok(());
            }
        }
        Err(unavailable(to, "other hosts kept changing it first").into())
    }
}

fn unavailable(home: &DatastoreName, why: impl ToString) -> ConfigFault {
    ConfigFault::HomeUnavailable {
        home: home.clone(),
        why: why.to_string(),
    }
}
