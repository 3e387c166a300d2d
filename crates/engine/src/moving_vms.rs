//! Transfers: VMs that change their vmgroup together with their volumes, while these are in use.
//!
//! ```text
//!   document: transfer stands ─► everybody knows ─► all volumes moved, one by one ─► document: members changed,
//!                                                        │ one cannot come           transfer over
//!                                                        └─► document: back ─► all moved back ─► document: transfer over
//! ```
//! * While it stands, its names are answered *try again* in both vmgroups, and its VMs make no volumes. So between the
//!   moment a VM cannot find a volume in its old vmgroup and the moment it finds it in the new one there is none in
//!   which it is told that there is no such volume, or makes an empty one.
//! * Rules are followed within a second, so nothing moves before that has passed. A request that began by older rules and
//!   is slow meets the name, which stays taken in the old vmgroup for a while (see `leftovers`).
//! * Every agent sees it in the document. The one that began goes on with it after its restart; any other does when it
//!   stood unchanged for a while (see `transfers`). Each step may run twice. It turns back at most once, by a change of the
//!   document, and never forward again, so that two agents cannot pull in two directions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, Fault, Member, Transfer, TransferredVolume};
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName, RequestId};

use crate::api::{Actor, Call, Outcome, Teller};
pub(crate) use crate::bringing::is_of;
use crate::bringing::{exactly, listed, target};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::moving::MoveTo;
use crate::moving_admin::may_come;
use crate::records::Stored;
use crate::transfers::Running;

/// Rules that agents follow are at most a second old; more, so that requests under way by them come to their look-up.
const FOLLOWED: Duration = Duration::from_millis(1500);
/// What another host has under way with a volume is waited for, so often and so long in between.
const TRIES: usize = 20;
/// Longest time for one volume.
const ONE_VOLUME: Duration = Duration::from_secs(60);
/// Volumes of VMs may appear while rules are on their way; then once more. Nobody makes any after that.
const ROUNDS: usize = 6;

/// VMs that change their vmgroup, and what they bring.
#[derive(Debug, Clone)]
pub(crate) struct TransferAsk {
    /// The VMs; each leaves the vmgroup it is in.
    pub(crate) vms: Vec<Member>,
    /// The vmgroup they come to.
    pub(crate) to: GroupId,
    /// Exactly these volumes, `name` or `name@datastore`; empty: those that the VMs have attached or made.
    pub(crate) only: Vec<String>,
}

/// Whether a failure stays one however often it is tried.
pub(crate) const fn is_final(why: &Error) -> bool {
    matches!(
        why,
        Error::Access(Fault::NameTaken { .. } | Fault::NoSuchGroup { .. })
            | Error::Denied(_)
            | Error::QuotaExceeded { .. }
    )
}

/// `1 volume`, `2 volumes`.
fn counted(number: usize, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

impl Inner {
    /// Makes VMs members of another vmgroup, with their volumes, also while these are attached or mounted. Begins with
    /// one change of the configuration on `home` and ends with one; what lies between outlives the caller and the
    /// agent. Call it after the change that made the vmgroup, or found that the VMs may come ([`Changed::moving`]).
    /// Says line by line what became of each volume.
    ///
    /// # Errors
    /// Before anything changed: [`Fault::NameTaken`], [`Error::QuotaExceeded`], denials by the new vmgroup's limits,
    /// [`Fault::UnderTransfer`]. Of the same kinds later: everything was taken back. Others: it goes on by itself.
    ///
    /// [`Changed::moving`]: vdvs_domain::access::Changed::moving
    pub(crate) async fn transfer(
        self: &Arc<Self>,
        home: &DatastoreName,
        who: &Actor<'_>,
        ask: &TransferAsk,
        teller: &Teller,
    ) -> Result<Vec<String>, Error> {
        let (config, access) = self.config_now(home, who).await?;
        let mut by_group: BTreeMap<GroupId, Vec<Member>> = BTreeMap::new();
        let mut rest = Vec::new();
        for vm in &ask.vms {
            match access.group_of_vm(vm.uuid) {
                Some(from) if from.id == ask.to => {}
                Some(from) => by_group.entry(from.id).or_default().push(vm.clone()),
                None => rest.push(vm.clone()),
            }
        }
        let mut lines = Vec::new();
        for (from, vms) in by_group {
            let begun = self.begin_transfer(home, who, config, (from, ask.to), vms, &ask.only);
            let running = begun.await?;
            let run = self.transfer_steps(home, who, config, running.id(), teller);
            lines.extend(Box::pin(run).await?);
        }
        if !rest.is_empty() {
            let join = |config: &mut AccessConfig| {
                config.put_members(ask.to, &rest);
                Ok(((), "VMs of no vmgroup became members".to_owned()))
            };
            self.change_config(home, who, join).await?;
        }
        Ok(lines)
    }

    /// The configuration as it is now, with its identity.
    async fn config_now(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
    ) -> Result<(Uuid, AccessConfig), Error> {
        let homes = self.homes().await?;
        let found = homes.into_iter().find(|(at, _)| at == home);
        let (_, rules) = found.ok_or_else(|| ConfigFault::HomeUnavailable {
            home: home.clone(),
            why: "no datastore that can be read says that its configuration lies there".to_owned(),
        })?;
        let read = |config: &mut AccessConfig| Ok((config.clone(), String::new()));
        let access = self.change_config(home, who, read).await?;
        Ok((rules.config, access))
    }

    async fn begin_transfer(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        config: Uuid,
        (from, to): (GroupId, GroupId),
        vms: Vec<Member>,
        only: &[String],
    ) -> Result<Running, Error> {
        let there = self.volumes_in_group(config, from).await?;
        let volumes = match only {
            [] => there
                .into_iter()
                .filter(|v| is_of(&v.record, &vms))
                .collect(),
            only => exactly(&there, only)?,
        };
        let (_, access) = self.config_now(home, who).await?;
        self.check_they_may_come(&access, to, &volumes).await?;
        let id = self.ports.ids.uuid();
        let transfer = Transfer {
            id,
            vms,
            from,
            to,
            volumes: listed(&volumes),
            exact: !only.is_empty(),
            back: false,
            host: self.host,
            began: self.now(),
        };
        let begin = |config: &mut AccessConfig| {
            let group = target(config, to)?;
            if let Some(busy) = transfer
                .vms
                .iter()
                .find_map(|vm| config.transfer_of_vm(vm.uuid))
            {
                let of = config.groups.iter().find(|g| g.id == busy.to);
                let name = of.unwrap_or(&group).name.clone();
                return Err(Fault::UnderTransfer { name }.into());
            }
            let what = format!(
                "{} and {} begin to move to vmgroup {}",
                counted(transfer.vms.len(), "VM"),
                counted(transfer.volumes.len(), "volume"),
                group.name
            );
            config.transfers.push(transfer.clone());
            Ok(((), what))
        };
        // Known as one that this agent is at before it stands, so that the reconciler leaves it alone.
        let twice = || Error::Internal("a fresh transfer was known".to_owned());
        let running = self.transfers.run(id).ok_or_else(twice)?;
        self.change_config(home, who, begin).await?;
        Ok(running)
    }

    /// Goes on with a transfer until it is over.
    pub(crate) async fn transfer_steps(
        self: &Arc<Self>,
        home: &DatastoreName,
        who: &Actor<'_>,
        config: Uuid,
        id: Uuid,
        teller: &Teller,
    ) -> Result<Vec<String>, Error> {
        for _ in 0..ROUNDS {
            sleep(FOLLOWED).await;
            let Some(transfer) = self.transfer_now(home, who, id).await? else {
                return Ok(Vec::new());
            };
            if !transfer.back && self.add_what_appeared(home, who, config, &transfer).await? {
                continue;
            }
            return self.move_all(home, who, &transfer, teller).await;
        }
        let name = GroupName::default_group();
        Err(Fault::UnderTransfer { name }.into())
    }

    async fn transfer_now(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        id: Uuid,
    ) -> Result<Option<Transfer>, Error> {
        let (_, access) = self.config_now(home, who).await?;
        Ok(access.transfers.into_iter().find(|t| t.id == id))
    }

    /// Adds volumes that the VMs made or attached before everybody knew of the transfer. `true`: there were some.
    async fn add_what_appeared(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        config: Uuid,
        transfer: &Transfer,
    ) -> Result<bool, Error> {
        if transfer.exact {
            return Ok(false);
        }
        let mut there = self.volumes_in_group(config, transfer.from).await?;
        let known = |v: &Indexed| transfer.volumes.iter().any(|t| t.id == v.record.id);
        there.retain(|v| is_of(&v.record, &transfer.vms) && !known(v));
        if there.is_empty() {
            return Ok(false);
        }
        let more = listed(&there);
        let add = |config: &mut AccessConfig| {
            if let Some(t) = config.transfers.iter_mut().find(|t| t.id == transfer.id) {
                let known: Vec<_> = t.volumes.iter().map(|v| v.id).collect();
                let new = more.iter().filter(|v| !known.contains(&v.id));
                t.volumes.extend(new.cloned());
            }
            Ok(((), "volumes that appeared meanwhile move too".to_owned()))
        };
        self.change_config(home, who, add).await.map(|()| true)
    }

    async fn move_all(
        self: &Arc<Self>,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
        teller: &Teller,
    ) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        let mut refused = None;
        teller.total(u64::try_from(transfer.volumes.len()).unwrap_or(0));
        if !transfer.back {
            for volume in &transfer.volumes {
                // Somebody else may have ended it, or turned it round.
                match self.transfer_now(home, who, transfer.id).await? {
                    None => return Ok(lines),
                    Some(now) if now.back => break,
                    Some(_) => {}
                }
                match self.bring(home, who, transfer, volume).await {
                    Ok(line) => lines.extend(line),
                    Err(why) if is_final(&why) => {
                        self.turn_transfer_back(home, who, transfer, &why).await?;
                        refused = Some(why);
                        break;
                    }
                    Err(why) => return Err(why),
                }
                teller.one_more();
            }
        }
        let now = self.transfer_now(home, who, transfer.id).await?;
        let Some(now) = now else { return Ok(lines) };
        if !now.back {
            match self.end_transfer(home, who, &now).await {
                Ok(()) => return Ok(lines),
                Err(why) if is_final(&why) => {
                    self.turn_transfer_back(home, who, &now, &why).await?;
                    refused = Some(why);
                }
                Err(why) => return Err(why),
            }
        }
        // Who moves forward by what it read before looks once more after each volume.
        sleep(FOLLOWED).await;
        for volume in &now.volumes {
            self.bring_back(home, who, &now, volume).await?;
        }
        self.forget_transfer(home, who, &now).await?;
        match refused {
            Some(why) => Err(why),
            None => Err(Fault::Refused {
                what: "the transfer was taken back".to_owned(),
                advice: "see: vdvs audit ls".to_owned(),
            }
            .into()),
        }
    }

    async fn bring(
        self: &Arc<Self>,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
        volume: &TransferredVolume,
    ) -> Result<Option<String>, Error> {
        let (_, access) = self.config_now(home, who).await?;
        let group = target(&access, transfer.to)?;
        let Some(stored) = self.by_id(volume.id).await? else {
            return Ok(None);
        };
        if stored.record.group != transfer.from && stored.record.group != transfer.to {
            return Ok(Some(format!("{} went elsewhere meanwhile", stored.name())));
        }
        let to = MoveTo {
            group: group.id,
            name: group.name.clone(),
            limit: may_come(&group, &volume.datastore, stored.record.capacity)?,
            keep_name: true,
        };
        let name = stored.name().to_string();
        if self.move_patiently(stored, &to).await?.is_change() {
            let detail = format!("with its VMs to vmgroup {}", group.name);
            self.audit(*who, "move", name.clone(), Some(volume.id), detail)
                .await;
        }
        Ok(Some(format!("{name} moved to vmgroup {}", group.name)))
    }

    async fn bring_back(
        self: &Arc<Self>,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
        volume: &TransferredVolume,
    ) -> Result<(), Error> {
        let (_, access) = self.config_now(home, who).await?;
        let Some(stored) = self.by_id(volume.id).await? else {
            return Ok(());
        };
        if stored.record.group != transfer.to && stored.record.moving.is_none() {
            return Ok(());
        }
        let old = access.groups.iter().find(|g| g.id == transfer.from);
        let to = MoveTo {
            group: transfer.from,
            name: old.map_or_else(GroupName::default_group, |g| g.name.clone()),
            limit: None,
            keep_name: false,
        };
        self.move_patiently(stored, &to).await.map(drop)
    }

    /// Moves a volume, waiting for what another host has under way with it.
    async fn move_patiently(
        self: &Arc<Self>,
        stored: Stored,
        to: &MoveTo,
    ) -> Result<Outcome<Stored>, Error> {
        let now = self.instant();
        let call = Call {
            request: RequestId::new(self.ports.ids.uuid()),
            deadline: now.checked_add(ONE_VOLUME).unwrap_or(now),
            cancel: CancellationToken::new(),
        };
        let mut stored = stored;
        for _ in 0..TRIES {
            let name = stored.name();
            match self.move_volume(&call, stored.clone(), to).await {
                Err(
                    Error::Contended { .. } | Error::Unresolved { .. } | Error::OnTheMove { .. },
                ) => {}
                // Removed meanwhile, by who may.
                Err(Error::VolumeNotFound { .. }) => return Ok(Outcome::Unchanged(stored)),
                other => return other,
            }
            sleep(self.settings.poll.saturating_mul(4)).await;
            match self.read_record(&stored.place).await? {
                Some(now) => stored = now,
                None => return Err(Error::Contended { name }),
            }
        }
        Err(Error::OnTheMove {
            name: stored.name().to_string(),
        })
    }

    async fn end_transfer(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
    ) -> Result<(), Error> {
        let end = |config: &mut AccessConfig| {
            let Some(stands) = config.transfers.iter().find(|t| t.id == transfer.id) else {
                return Ok(((), String::new()));
            };
            let (vms, to) = (stands.vms.clone(), stands.to);
            let group = target(config, to)?.name;
            config.transfers.retain(|t| t.id != transfer.id);
            config.put_members(to, &vms);
            let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
            let what = format!(
                "vmgroup vm add {group}, VMs {}, with their volumes",
                names.join(", ")
            );
            Ok(((), what))
        };
        self.change_config(home, who, end).await
    }

    async fn turn_transfer_back(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
        why: &Error,
    ) -> Result<(), Error> {
        tracing::info!(transfer = %transfer.id, %why, "a transfer is taken back");
        let back = |config: &mut AccessConfig| {
            if let Some(t) = config.transfers.iter_mut().find(|t| t.id == transfer.id) {
                t.back = true;
            }
            Ok(((), format!("VMs and volumes stay where they were: {why}")))
        };
        self.change_config(home, who, back).await
    }

    async fn forget_transfer(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        transfer: &Transfer,
    ) -> Result<(), Error> {
        let forget = |config: &mut AccessConfig| {
            config.transfers.retain(|t| t.id != transfer.id);
            Ok(((), "VMs and volumes are where they were".to_owned()))
        };
        self.change_config(home, who, forget).await
    }
}
