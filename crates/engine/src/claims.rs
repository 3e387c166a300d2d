//! Asking another host's agent for a volume: the claimant's side of a claim.
//!
//! Only the agent of the host where a VM is registered reconfigures that VM. A request that finds its volume with a VM
//! of another host therefore writes a claim into the record, renews it while it waits, and withdraws it when it ends
//! without the volume; the attach itself takes it away with the same change that makes the claimant the owner. What
//! the other agent does about it is in `wanted`.
//!
//! * The first claim stands; other claimants wait for it to go.
//! * While it stands and the volume is free, nobody else begins an attach: what was taken for the claimant goes to it.
//! * A claim whose writer died is not renewed. Whoever looks takes it for abandoned when it saw it unchanged for
//!   [`Settings::claim_lease`](crate::api::Settings) by its own clock. Only for showing it and for keeping a free
//!   volume for the claimant are the clocks of two hosts compared: being wrong there costs patience, not data.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use vdvs_domain::record::Claim;
use vdvs_domain::{
    Error, Failover, HostId, RequestId, Timestamp, VmId, VmRef, VolumeId, VolumeRecord,
};

use crate::inner::Inner;
use crate::layout::Place;
use crate::records::{Change, Stored};

/// Renewed when a quarter of its time is over: a few slow calls do not make it look abandoned.
const RENEWALS_PER_LEASE: u32 = 4;
/// A datastore that takes longer for a claim does not keep the request from looking: the claim is made meanwhile.
const ANSWER: Duration = Duration::from_secs(2);

/// A claim as one observer saw it, by the observer's clock.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sight {
    last: Option<(RequestId, Timestamp, Instant)>,
}

impl Sight {
    /// Adds a look. `false`: unchanged for longer than a claimant that lives would leave it.
    pub(crate) fn is_alive(&mut self, claim: &Claim, now: Instant, lease: Duration) -> bool {
        match self.last {
            Some((request, deadline, since))
                if request == claim.request && deadline == claim.deadline =>
            {
                now.saturating_duration_since(since) <= lease
            }
            _ => {
                self.last = Some((claim.request, claim.deadline, now));
                true
            }
        }
    }
}

/// The claim that keeps a free volume for another VM than `vm`. A deadline too far in the future is another host's
/// clock, and no reason to make anybody wait.
pub(crate) fn reserved_for_another<'a>(
    record: &'a VolumeRecord,
    vm: &VmId,
    now: Timestamp,
    lease: Duration,
) -> Option<&'a Claim> {
    let claim = record.claim.as_ref().filter(|c| c.vm.id != *vm)?;
    let left = claim.deadline.millis().checked_sub(now.millis())?;
    let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    (left > 0 && left <= lease.saturating_mul(2)).then_some(claim)
}

/// A request's claim. Dropped without [`Claiming::fulfilled`] it is withdrawn.
#[derive(Debug)]
pub(crate) struct Claiming {
    inner: Arc<Inner>,
    by: VmRef,
    request: RequestId,
    since: Timestamp,
    /// By an administrator who does not wait.
    at_once: bool,
    /// Of others' claims.
    sight: Sight,
    stands: Option<Standing>,
}

/// Our claim stands in the record, as far as we know.
#[derive(Debug)]
struct Standing {
    place: Place,
    volume: VolumeId,
    renew: Instant,
}

impl Claiming {
    pub(crate) fn new(inner: &Arc<Inner>, by: &VmRef, request: RequestId) -> Self {
        Self {
            inner: Arc::clone(inner),
            by: by.clone(),
            request,
            since: inner.now(),
            at_once: false,
            sight: Sight::default(),
            stands: None,
        }
    }

    /// It asks for the volume at once, and stands before the claims of those who wait.
    pub(crate) fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// The volume is the claimant's; the claim went with the attach.
    pub(crate) fn fulfilled(mut self) {
        self.stands = None;
    }

    /// Makes or renews the claim, where the volume as it was read allows it. What fails is tried again with the next
    /// look.
    pub(crate) async fn claim(&mut self, seen: &Stored) {
        let now = self.inner.instant();
        let lease = self.inner.settings.claim_lease;
        let renewed = self.stands.as_ref().is_some_and(|s| now < s.renew);
        match &seen.record.claim {
            Some(claim) if self.is_mine(claim) && renewed => return,
            Some(claim) if self.is_mine(claim) => {}
            // Of two who ask at once the first stays: each would put its own before the other's, without end.
            Some(other)
                if (other.at_once || !self.at_once) && self.sight.is_alive(other, now, lease) =>
            {
                return;
            }
            _ => {}
        }
        let late = Err(Error::DeadlinePassed {
            doing: "writing a claim",
        });
        let written = timeout(ANSWER, self.write(seen)).await.unwrap_or(late);
        match written {
            Ok(stored)
                if stored
                    .record
                    .claim
                    .as_ref()
                    .is_some_and(|c| self.is_mine(c)) =>
            {
                self.stands = Some(Standing {
                    place: stored.place.clone(),
                    volume: stored.record.id,
                    renew: now.checked_add(lease / RENEWALS_PER_LEASE).unwrap_or(now),
                });
            }
            Ok(_) => {}
            Err(why) => {
                tracing::debug!(volume = %seen.name(), %why, "the claim is made with the next look");
            }
        }
    }

    fn is_mine(&self, claim: &Claim) -> bool {
        claim.request == self.request && claim.host == self.inner.host
    }

    async fn write(&self, seen: &Stored) -> Result<Stored, Error> {
        let (inner, seen) = (Arc::clone(&self.inner), seen.clone());
        let lease = u64::try_from(inner.settings.claim_lease.as_millis()).unwrap_or(u64::MAX);
        let claim = Claim {
            vm: self.by.clone(),
            host: inner.host,
            host_name: inner.host_name(inner.host),
            request: self.request,
            mode: seen.record.options.failover,
            since: self.since,
            deadline: Timestamp::from_millis(inner.now().millis().saturating_add(lease)),
            at_once: self.at_once,
        };
        let me = Arc::clone(&inner);
        inner
            .to_the_end(async move {
                me.change(&seen.place, |record| {
                    let same = record.epoch == seen.record.epoch
                        && record.ownership.owner().is_some()
                        && record.claim == seen.record.claim;
                    if !same {
                        return Ok(Change::Keep);
                    }
                    let mut next = record.clone();
                    next.claim = Some(claim.clone());
                    Ok(next.into())
                })
                .await
            })
            .await
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let Some(stands) = self.stands.take() else {
            return;
        };
        // At the end of the process nobody runs it any more; the claim ends by itself then.
        if Handle::try_current().is_err() {
            return;
        }
        let (inner, request) = (Arc::clone(&self.inner), self.request);
        drop(self.inner.task(async move {
            let host = inner.host;
            let withdrawn = inner.withdraw(&stands.place, request, host);
            if let Err(why) = inner.answering(&stands.place.ds, withdrawn).await {
                tracing::debug!(volume = %stands.volume, %why, "a claim is left to end by itself");
            }
        }));
    }
}

impl Inner {
    /// Removes a claim, if it is still this one.
    pub(crate) async fn withdraw(
        &self,
        place: &Place,
        request: RequestId,
        host: HostId,
    ) -> Result<(), Error> {
        self.change(place, |record| match &record.claim {
            Some(claim) if claim.request == request && claim.host == host => {
                let mut next = record.clone();
                next.claim = None;
                Ok(next.into())
            }
            _ => Ok(Change::Keep),
        })
        .await
        .map(drop)
    }

    /// Who waits for a volume first, as far as this host can see, and since when.
    pub(crate) fn wanted_by(&self, record: &VolumeRecord) -> Option<(VmRef, String, Timestamp)> {
        let here = self.notices.first_want(record.id);
        let here = here.map(|w| (w.by, self.host_name(self.host), w.since));
        let claim = record.claim.as_ref();
        let claim = claim.filter(|c| c.deadline >= self.now());
        let there = claim.map(|c| (c.vm.clone(), c.host_name.clone(), c.since));
        let owner = record.ownership.owner().map(|o| &o.vm.id);
        here.into_iter()
            .chain(there)
            .filter(|(vm, ..)| Some(&vm.id) != owner)
            .min_by_key(|(.., since)| *since)
    }

    /// Who waits for a volume, since when, and what happens next, in words.
    pub(crate) fn waiting_in_words(&self, record: &VolumeRecord) -> Option<String> {
        let (vm, host, since) = self.wanted_by(record)?;
        let waited = self.now().millis().saturating_sub(since.millis()) / 1000;
        let who = format!("VM {vm} on host {host} waits for it since {waited} s");
        let Some(owner) = record.ownership.owner() else {
            return Some(who);
        };
        let holder = &owner.vm;
        Some(match record.options.failover {
            Failover::Wait => format!("{who}; it stays with VM {holder} until that lets it go"),
            Failover::Fence => {
                let after = u64::from(record.options.fence_after.seconds());
                match after.saturating_sub(waited) {
                    0 => format!("{who}; it is being taken from VM {holder}"),
                    left => format!("{who}; it is taken from VM {holder} in {left} s"),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vdvs_domain::Ownership;

    use super::*;
    use crate::plan::tests::record;

    fn claim(deadline: u64) -> Claim {
        Claim {
            vm: VmRef {
                id: VmId {
                    instance_uuid: Uuid::from_u128(2),
                    config_path: String::new(),
                },
                name: "vm2".to_owned(),
            },
            host: HostId::new(Uuid::from_u128(9)),
            host_name: "esx02".to_owned(),
            request: RequestId::new(Uuid::from_u128(1)),
            mode: Failover::Fence,
            since: Timestamp::default(),
            deadline: Timestamp::from_millis(deadline),
            at_once: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_lives_as_long_as_it_is_renewed_by_the_clock_of_who_looks() {
        let lease = Duration::from_secs(10);
        let start = Instant::now();
        let mut sight = Sight::default();
        let mut look = |secs, deadline| {
            sight.is_alive(&claim(deadline), start + Duration::from_secs(secs), lease)
        };
        assert!(look(0, 10), "its deadline is long past, by another clock");
        assert!(look(9, 10));
        assert!(look(11, 20), "renewed");
        assert!(look(21, 20));
        assert!(!look(22, 20));
        assert!(look(23, 30), "it was only slow");
    }

    #[test]
    fn a_claim_keeps_a_free_volume_for_its_vm_and_no_longer_than_it_says() {
        let mut free = record(Ownership::Free);
        free.claim = Some(claim(100_000));
        let lease = Duration::from_secs(10);
        let of = |n: u128| VmId {
            instance_uuid: Uuid::from_u128(n),
            config_path: String::new(),
        };
        let reserved = |vm: u128, now: u64| {
            let now = Timestamp::from_millis(now);
            reserved_for_another(&free, &of(vm), now, lease).is_some()
        };
        assert!(reserved(3, 95_000));
        assert!(!reserved(2, 95_000), "its own");
        assert!(!reserved(3, 100_000), "over");
        assert!(!reserved(3, 1000), "by a clock that is wrong");
    }
}
