//! Removing a vmgroup, with its volumes if that is asked for.
//!
//! ```text
//!   nothing stands in the way? ─► closed (a mark in the configuration) ─► its volumes, one by one ─► gone
//! ```
//! Whatever can be known to stand in the way is looked at first, and then nothing is changed at all. The closed vmgroup
//! lets its VMs only let go of what they have, and keeps its members, so that nobody comes to `_DEFAULT` half-way. What
//! is cut off goes on with the same command, on any host; or the vmgroup is kept, with what is left, by
//! `vmgroup update`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vdvs_domain::access::{Fault, Group};
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{DatastoreName, Error, RequestId};

use crate::admin_groups::{GroupChanged, RemoveGroup, Under, full_name_of};
use crate::api::{Actor, Call, LocalUser};
use crate::governance::Rules;
use crate::index::Indexed;
use crate::inner::Inner;
use crate::telling::Teller;

/// So many volumes an error names.
const NAMED: usize = 10;
/// Rounds of removing what is there: a create that was under way may add one.
const ROUNDS: usize = 3;

fn named(volumes: &[String]) -> Vec<String> {
    let mut named: Vec<String> = volumes.iter().take(NAMED).cloned().collect();
    if let more @ 1.. = volumes.len().saturating_sub(NAMED) {
        named.push(format!("and {more} more"));
    }
    named
}

fn of<'a>(group: &'a Group, under: &'a Under) -> impl Iterator<Item = &'a Indexed> {
    under.volumes.iter().filter(|v| v.record.group == group.id)
}

/// What stands in the way of removing a vmgroup's volumes: those that a VM has, and those that are protected.
fn obstacles(group: &Group, under: &Under) -> Vec<String> {
    let why = |v: &Indexed| {
        if let Some(owner) = v.record.ownership.owner() {
            return Some(format!(
                "{} is attached to VM {}",
                full_name_of(v),
                owner.vm.name
            ));
        }
        v.record
            .protected
            .then(|| format!("{} is protected", full_name_of(v)))
    };
    of(group, under).filter_map(why).collect()
}

impl Inner {
    pub(crate) async fn remove_group(
        self: &Arc<Self>,
        user: &LocalUser,
        home: &DatastoreName,
        rules: &Rules,
        ask: &RemoveGroup,
        tell: &Teller,
    ) -> Result<GroupChanged, Error> {
        // The checks of the change itself come first, on a copy.
        rules.access.clone().remove_group(&ask.name, ask.force)?;
        let Some(group) = rules.access.group(&ask.name) else {
            return Err(Error::Internal("a vmgroup went and came".to_owned()));
        };
        let under = self.volumes_under(rules.config).await?;
        if let Some(ds) = under.unreadable.first().filter(|_| !ask.force) {
            return Err(Fault::Refused {
                what: format!("datastore {ds} cannot be read, so it is not known whether vmgroup {} has volumes there", ask.name),
                advice: "bring it back; or give --force, then such volumes belong to no vmgroup".to_owned(),
            }
            .into());
        }
        let volumes: Vec<String> = of(group, &under).map(full_name_of).collect();
        match (volumes.is_empty(), ask.remove_volumes) {
            (true, _) => {}
            (false, false) => {
                return Err(Fault::HasVolumes {
                    name: group.name.clone(),
                    count: volumes.len(),
                    volumes: named(&volumes),
                }
                .into());
            }
            (false, true) => {
                let obstacles = obstacles(group, &under);
                if !obstacles.is_empty() {
                    return Err(Fault::Refused {
                        what: format!("nothing was removed: {}", named(&obstacles).join(", ")),
                        advice: "stop the containers that use them, or lift the protection with: vdvs volume unprotect; then try again".to_owned(),
                    }
                    .into());
                }
                self.close_and_empty(user, home, group, rules, ask, tell)
                    .await?;
            }
        }
        let actor = Actor::Admin(user);
        let removed = self.change_config(home, &actor, |config| {
            let done = config.remove_group(&ask.name, ask.force)?;
            Ok(((), done.what))
        });
        removed.await?;
        // Each volume was told when it was gone.
        Ok(GroupChanged {
            lines: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn close_and_empty(
        self: &Arc<Self>,
        user: &LocalUser,
        home: &DatastoreName,
        group: &Group,
        rules: &Rules,
        ask: &RemoveGroup,
        tell: &Teller,
    ) -> Result<(), Error> {
        let actor = Actor::Admin(user);
        let closed = self.change_config(home, &actor, |config| {
            let done = config.close_group(&ask.name, ask.force)?;
            Ok(((), done.what))
        });
        closed.await?;
        let (mut gone, mut failed) = (0_usize, Vec::new());
        for _ in 0..ROUNDS {
            let under = self.volumes_under(rules.config).await?;
            let volumes: Vec<&Indexed> = of(group, &under).collect();
            if volumes.is_empty() {
                return Ok(());
            }
            let total = gone.saturating_add(volumes.len());
            tell.total(u64::try_from(total).unwrap_or(u64::MAX));
            failed.clear();
            for volume in volumes {
                if tell.should_stop() {
                    failed.push("the agent is stopping".to_owned());
                    break;
                }
                let name = full_name_of(volume);
                match self.remove_one(user, volume).await {
                    Ok(()) => {
                        tell.line(format!("removed {name}"));
                        tell.one_more();
                        gone += 1;
                    }
                    Err(why) => failed.push(format!("{name}: {why}")),
                }
            }
            if !failed.is_empty() {
                break;
            }
        }
        Err(Fault::Refused {
            what: format!(
                "vmgroup {} is closed and not yet removed; {} of its volumes are, and these are not: {}",
                ask.name,
                gone,
                named(&failed).join("; ")
            ),
            advice: format!(
                "go on with the same command, or keep what is left with: vdvs vmgroup update --name={}",
                ask.name
            ),
        }
        .into())
    }

    async fn remove_one(self: &Arc<Self>, user: &LocalUser, volume: &Indexed) -> Result<(), Error> {
        let Some(stored) = self.read_indexed(volume).await? else {
            return Ok(());
        };
        let call = Call {
            request: RequestId::new(self.ports.ids.uuid()),
            deadline: self.host_deadline(),
            cancel: CancellationToken::new(),
        };
        let (name, id) = (stored.name().to_string(), stored.record.id);
        let fingerprint = Fingerprint(format!("administrator delete {id}"));
        self.delete_volume(&call, &stored, fingerprint).await?;
        let detail = "with its vmgroup".to_owned();
        self.audit(Actor::Admin(user), "delete", name, Some(id), detail)
            .await;
        Ok(())
    }
}
