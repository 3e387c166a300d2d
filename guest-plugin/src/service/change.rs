//! Create and Remove.

use std::collections::BTreeMap;
use std::slice;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info};
use vdvs_domain::suggest::did_you_mean;
use vdvs_domain::{ErrorKind, FsType, VolumeAddress};

use super::job::Kind;
use super::mount::advise;
use super::{Failure, Volumes};
use crate::agent::{AgentError, Link, Silence};
use crate::journal::Stage;

/// How long a Create waits for an agent that is away: as long as a Mount does. Once it has been asked, its work may take
/// the whole budget.
const PATIENCE: Duration = Duration::from_secs(30);

impl Volumes {
    /// Allocates a volume; it is formatted at its first mount. Existing with equal options is success.
    ///
    /// # Errors
    /// [`Failure::Said`]. When the agent does not answer, whether the volume exists is not known; the same command
    /// again finds out.
    pub async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let address = VolumeAddress::parse(name).map_err(|e| Failure::Said(e.to_string()))?;
        // A clone has its source's file system, whatever is installed here.
        if !options.contains_key("clone-from") {
            self.can_format(options.get("fstype").map(String::as_str))?;
        }
        let deadline = Instant::now() + self.limits().mount_budget;
        if let Err(e) = self.agent_appears().await {
            return Err(Failure::Said(advise(&address, &e)));
        }
        match self
            .agent()
            .create(&address.to_string(), options, deadline)
            .await
        {
            Ok((volume, created)) => {
                info!(volume = %volume.full_name(), created, "create");
                let short = address.datastore.is_none().then_some(volume.id);
                self.learn(slice::from_ref(&volume), short).await;
                Ok(())
            }
            Err(e) => Err(Failure::Said(advise(&address, &e))),
        }
    }

    async fn agent_appears(&self) -> Result<(), AgentError> {
        let mut link = self.agent().link();
        let appeared = timeout(PATIENCE, link.wait_for(Link::is_up)).await;
        if matches!(appeared, Ok(Ok(_))) {
            return Ok(());
        }
        drop(appeared);
        let why = match &*link.borrow() {
            Link::Down { why } => why.clone(),
            Link::Up { .. } => "it stopped answering".into(),
        };
        Err(AgentError::Away(Silence {
            why,
            heard: false,
            waited: PATIENCE,
        }))
    }

    /// Refuses a file system that could never be made here, in the original's words.
    fn can_format(&self, fstype: Option<&str>) -> Result<(), Failure> {
        let asked = fstype.unwrap_or("ext4");
        let supported = self.devices().filesystems();
        if FsType::new(asked).is_ok_and(|asked| supported.contains(&asked)) {
            return Ok(());
        }
        let supported: Vec<&str> = supported.iter().map(FsType::as_str).collect();
        let asked: String = asked.chars().take(32).collect();
        // Of several that are as near, the usual one.
        let mut near = supported.clone();
        near.sort_by_key(|kind| *kind != "ext4");
        let hint = did_you_mean(&asked, near);
        let hint = hint.trim_start();
        let hint = if hint.is_empty() {
            String::new()
        } else {
            format!("\n{hint}")
        };
        Err(Failure::Said(format!(
            "Not found mkfs for {asked}\nSupported filesystems found: {}{hint}",
            supported.join(", ")
        )))
    }

    /// Removes a volume that nobody has mounted or attached: the one that bears the name now, whichever bears it by the
    /// time an agent hears of it, perhaps for the second time and from another host. Which one that is, is asked and not
    /// remembered: what is remembered may have been removed elsewhere since.
    ///
    /// # Errors
    /// [`Failure::Said`].
    pub async fn remove(&self, name: &str) -> Result<(), Failure> {
        let address = VolumeAddress::parse(name).map_err(|e| Failure::Said(e.to_string()))?;
        let deadline = self.call_deadline();
        self.let_go_before_removal(name, &address, deadline).await?;
        let volume = match self.agent().get(&address.to_string(), deadline).await {
            Ok(volume) => volume,
            Err(e) => {
                if e.kind() == Some(ErrorKind::NotFound) {
                    self.forget_name(&address).await;
                }
                return Err(Failure::Said(advise(&address, &e)));
            }
        };
        let short = address.datastore.is_none().then_some(volume.id);
        self.learn(slice::from_ref(&volume), short).await;
        let full = volume.full_name();
        // With what bore its name before it. Not what may bear it afterwards.
        let gone = self.book().known_as(&full);
        // By its full name: a short one may lead elsewhere on another host, and *not found* would not mean this volume.
        let removed = self
            .agent()
            .delete(&full.to_string(), volume.id, deadline)
            .await;
        let is_gone = match &removed {
            Ok(()) => true,
            Err(e) => e.kind() == Some(ErrorKind::NotFound),
        };
        if is_gone {
            self.forget(&gone).await;
        }
        removed.map_err(|e| Failure::Said(advise(&address, &e)))?;
        info!(volume = %full, id = %volume.id, "removed");
        Ok(())
    }

    /// Refuses while the volume is counted here; lets a left-over go first.
    async fn let_go_before_removal(
        &self,
        name: &str,
        address: &VolumeAddress,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let here = self.book().held_named(address);
        // A short name may mean either of two; the agent then says which, and refuses what is attached.
        let [volume] = here.as_slice() else {
            return Ok(());
        };
        // This VM was started anew, or the plugin: whether its old counts mean anything is being asked of the kernel.
        if self.book().counted_unmounted().contains(volume)
            && let Some(asking) = self.running(*volume)
        {
            drop(timeout_at(deadline, asking.ended()).await);
        }
        loop {
            let (counted, claims, lost) = {
                let book = self.book();
                let held = book.held.get(volume);
                let counted: u64 = held.map_or(0, |held| {
                    held.counts
                        .values()
                        .map(|count| u64::from(count.count))
                        .sum()
                });
                let lost = held.is_none_or(|held| held.stage == Stage::Lost);
                (counted, book.claims(*volume), lost)
            };
            if lost {
                return Ok(());
            }
            if counted > 0 || claims > 0 {
                return Err(Failure::Said(format!(
                    "Remove failure - volume is still mounted.  volume={name}, refcount={counted}"
                )));
            }
            let job = self
                .running(*volume)
                .unwrap_or_else(|| self.take_down(*volume));
            let kind = job.kind;
            match timeout_at(deadline, job.ended()).await {
                // It was only looked at.
                Ok(_) if kind != Kind::TakeDown => {}
                Ok(Err(stopped)) => {
                    debug!(volume = name, why = %stopped.text, "still here; the agent will say what it thinks of a removal");
                    return Ok(());
                }
                Ok(Ok(())) | Err(_) => return Ok(()),
            }
        }
    }
}
