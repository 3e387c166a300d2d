//! What was acknowledged to whom, and what it must not contradict.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, VmId};
use vdvs_engine::ports::DiskPath;

use super::state::{Asked, Standing, State, Volume, called, split, volume_of};
use super::{Found, Promise};

/// An answer that says *not found* rests on a look at every datastore in the same call. No call takes as long as this,
/// so a datastore that was away for all of it was not looked at.
const LONGEST_CALL: Duration = Duration::from_secs(150);

/// A record keeps the last eight results of its volume for retries, and a mount from first to last leaves up to four.
const KEPT: u64 = 2;

impl State {
    pub(crate) fn created(&mut self, volume: &str, ds: &DatastoreName) {
        let (short, given) = split(volume);
        let is_short = given.is_none();
        let elsewhere = self.volumes.iter().find(|((name, at), v)| {
            name == short && at != ds && v.short && v.standing == Standing::Exists
        });
        if is_short && let Some(((_, other), _)) = elsewhere {
            let text = format!("'{short}' was created on {ds}, and it is on {other} already");
            self.broken(Promise::TwiceIsOnce, text);
        }
        let at = (short.to_owned(), ds.clone());
        self.late
            .retain(|disk| disk.datastore != *ds || volume_of(disk) != Some(short));
        self.acknowledged += 1;
        let known = self.volumes.get(&at);
        // One that is reported once more has been there since the first time.
        let still = known.filter(|v| v.standing == Standing::Exists);
        let volume = Volume {
            standing: Standing::Exists,
            number: still.map_or(self.acknowledged, |v| v.number),
            short: is_short || known.is_some_and(|v| v.short),
        };
        self.volumes.insert(at, volume);
    }

    /// A removal that was under way since the question may come, or have come, after the look behind this answer. One that
    /// had ended before, whatever its own answer was, may not: the volume stays.
    pub(crate) fn there_already(&mut self, volume: &str, ds: &DatastoreName, asked: Asked) {
        let short = split(volume).0;
        let at = (short.to_owned(), ds.clone());
        let stands = |v: &Volume| v.standing == Standing::Exists;
        if self.volumes.get(&at).is_some_and(stands) || !self.removal_since(short, asked) {
            self.created(volume, ds);
        }
    }

    pub(crate) fn removing(&mut self, volume: &str) {
        for (at, _) in self.meant(volume) {
            if let Some(found) = self.volumes.get_mut(&at) {
                found.standing = Standing::Leaving;
            }
        }
    }

    /// Only those that are leaving: one of the name may have been created anew since.
    pub(crate) fn removed(&mut self, volume: &str) {
        for (at, found) in self.meant(volume) {
            if found.standing == Standing::Leaving {
                self.volumes.remove(&at);
            }
        }
        let (short, _) = split(volume);
        if self.meant(short).is_empty() {
            self.vms.values_mut().for_each(|vm| {
                vm.seen.remove(short);
                vm.heard.remove(short);
            });
        }
    }

    pub(crate) fn seen(&mut self, vm: &VmId, name: &str) {
        let short = split(name).0.to_owned();
        self.vm(vm).seen.insert(short);
    }

    pub(crate) fn heard(&mut self, vm: &VmId, name: &str, dead: CancellationToken) {
        let short = split(name).0.to_owned();
        self.vm(vm).heard.insert(short, dead);
    }

    pub(crate) fn has_seen(&self, vm: &VmId, name: &str) -> bool {
        let short = split(name).0;
        let lives = |dead: &CancellationToken| !dead.is_cancelled();
        self.vms
            .get(vm)
            .is_some_and(|vm| vm.seen.contains(short) || vm.heard.get(short).is_some_and(lives))
    }

    pub(crate) fn asks(&self) -> Asked {
        Asked {
            at: self.now,
            number: self.acknowledged,
            removals: self.removals_ended,
        }
    }

    pub(crate) fn told_not_found(&mut self, vm: &VmId, name: &str, at: Asked) {
        let who = called(vm);
        let there = self.known(name, at);
        let there = there.iter().find(|(_, v)| v.standing == Standing::Exists);
        if let Some(((_, ds), _)) = there {
            let text = format!("{who} was told that '{name}' does not exist; it is on {ds}");
            return self.broken(Promise::NeverDenyByGuess, text);
        }
        let Some((host, since)) = self.vms.get(vm).and_then(|vm| vm.host) else {
            return;
        };
        let asked = split(name).1;
        let long_ago =
            |since: &Duration| *since <= at.at && self.now.saturating_sub(*since) >= LONGEST_CALL;
        let away = self.unreachable.iter().find(|((on, ds), since)| {
            *on == host && long_ago(since) && asked.is_none_or(|asked| asked == ds.as_str())
        });
        if let Some(((_, ds), _)) = away
            && long_ago(&since)
        {
            let text = format!(
                "{who} was told that '{name}' does not exist, though its host cannot read {ds}"
            );
            self.broken(Promise::NeverDenyByGuess, text);
        }
    }

    pub(crate) fn local_twin(&mut self, vm: &VmId, name: &str, asked: Asked) {
        let short = split(name).0;
        // One that is removed, or is being removed, is rightly not found.
        let meant = self.meant(short);
        let all_there = meant.iter().all(|(_, v)| v.standing == Standing::Exists);
        let there = all_there && !self.known(short, asked).is_empty();
        if there && self.has_seen(vm, name) {
            let text = format!(
                "dockerd in {} made a local volume '{name}', a name its plugin knows",
                called(vm)
            );
            self.broken(Promise::NeverDenyByGuess, text);
        }
    }

    pub(crate) fn formats(&mut self, vm: &VmId, disk: &DiskPath, found: Found) {
        let why = match found {
            Found::Foreign => "something else is on it",
            Found::Unknown => "nobody knows what is on it",
            Found::Blank | Found::OwnUnfinished if self.used.contains(disk) => {
                "it was mounted before"
            }
            Found::Blank | Found::OwnUnfinished if self.flushed.contains_key(disk) => {
                "data was flushed to it"
            }
            Found::Blank | Found::OwnUnfinished => return,
        };
        let text = format!("{} formats {disk}: {why}", called(vm));
        self.broken(Promise::NeverFormatByGuess, text);
    }

    pub(crate) fn mounted(&mut self, vm: &VmId, disk: &DiskPath, task: &str) {
        self.used.insert(disk.clone());
        let open = self.vm(vm);
        let tasks = open.mounted.entry(disk.clone()).or_default();
        tasks.insert(task.to_owned());
    }

    pub(crate) fn unmounted(&mut self, vm: &VmId, disk: &DiskPath) {
        self.vm(vm).mounted.remove(disk);
    }

    pub(crate) fn flushed(&mut self, _vm: &VmId, disk: &DiskPath, block: u64, value: u64) {
        let blocks = self.flushed.entry(disk.clone()).or_default();
        let last = blocks.entry(block).or_default();
        *last = value.max(*last);
    }

    pub(crate) fn read(&mut self, vm: &VmId, disk: &DiskPath, block: u64, value: u64) {
        let flushed = self.flushed.get(disk).and_then(|blocks| blocks.get(&block));
        if let Some(flushed) = flushed.copied().filter(|flushed| value < *flushed) {
            let text = format!(
                "{} reads {value} from block {block} of {disk}, where {flushed} was flushed",
                called(vm)
            );
            self.broken(Promise::NothingLost, text);
        }
    }

    pub(crate) fn detached(&mut self, vm: &VmId, disk: &DiskPath, was_mounted: bool) {
        // A disk that died under its users is open no more: they have lost it already.
        let state = self.vms.get(vm);
        let open = state.is_some_and(|vm| vm.open.contains_key(disk));
        let mounted = state.is_some_and(|vm| vm.mounted.contains_key(disk));
        if open && (was_mounted || mounted) {
            let text = format!("{} asks to detach {disk}, which is mounted", called(vm));
            self.broken(Promise::DetachUnused, text);
        }
    }

    pub(crate) fn may_fence(&mut self, volume: &str) {
        self.fenceable.insert(split(volume).0.to_owned());
    }

    pub(crate) fn forced(&mut self, volume: &str, forced: bool) {
        let short = split(volume).0.to_owned();
        match forced {
            true => drop(self.forced.insert(short)),
            false => drop(self.forced.remove(&short)),
        }
    }

    pub(crate) fn answered(&mut self, request: Uuid, answer: &str) {
        let subject = answer.split(' ').next().unwrap_or_default();
        let count = self.said.entry(subject.to_owned()).or_default();
        let Some((first, then)) = self.answers.get(&request) else {
            *count += 1;
            self.answers.insert(request, (answer.to_owned(), *count));
            return;
        };
        if first != answer && count.saturating_sub(*then) < KEPT {
            let text =
                format!("request {request} got '{first}', and when it came again '{answer}'");
            self.broken(Promise::TwiceIsOnce, text);
        }
    }
}
