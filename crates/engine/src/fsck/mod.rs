//! `vdvs fsck`: what is damaged on a datastore, and its repair.
//!
//! ```text
//!   marker, document ─► newer than this program? ─► refused, nothing there is touched
//!     │
//!   look ─► findings? ─► look again a moment later ─► what is in both looks is a finding
//!                                                       │ repair
//!                                    damaged bytes put aside ─► the file anew, by swap
//! ```
//! | module | concept |
//! |---|---|
//! | `catalog` | one look at everything of ours on a datastore |
//! | `verdict` | what is wrong in a look. Pure |
//! | `whole` | marker, document, ledgers, hosts' files |
//! | `salvage` | what a damaged record still tells, and how far it is believed. Pure |
//! | `evidence` | whose a disk is, by the VMs' configurations, its lock, and what other hosts tell |
//! | `rebuild` | a record made anew; claims |
//! | `aside` | damaged bytes are kept |
//!
//! What holds whatever is found:
//! * **No disk's byte is read or written.** A disk is its descriptor's name, size and UUID.
//! * **Nothing is formatted because of it**: a rebuilt record has a file system in state *unknown*.
//! * **Nobody loses a volume by guess.** A disk that a VM's configuration names is attached there. Where nobody can say
//!   who has a disk, the record is not rebuilt, and the finding says what would tell.
//! * **A newer format is refused untouched**, and so is all that hangs on it.
//! * Every repair is one change by *swap* on what was read, so other hosts may go on, repair the same, or die in the
//!   middle of it. Damaged bytes are kept under `dockvols/.vdvs/damaged` first. A second run finds nothing to do.
//! * What a crash of our own leaves and the reconciler ends by itself is shown and left to it.

mod aside;
mod catalog;
mod evidence;
mod findings;
mod rebuild;
mod salvage;
mod verdict;
mod whole;

use std::sync::Arc;

use tokio::time::sleep;
use vdvs_domain::{DatastoreName, Error, VolumeAddress};

use crate::api::{Actor, LocalUser, Teller};
use crate::engine::Engine;
use crate::inner::Inner;

pub use self::findings::{FsckAsk, FsckFinding, FsckKind, FsckLooked, FsckReport, FsckState};
use self::verdict::Suspicion;

/// Two looks are so many polls apart: longer than any step of ours between two writes of one change.
const BETWEEN_LOOKS: u32 = 4;

impl Engine {
    /// Looks for damage on datastores, and repairs it if that is asked.
    ///
    /// # Errors
    /// [`Error::NoSuchDatastore`], a name that is none, or that the host cannot list its datastores. What is wrong with
    /// one of them stands in the report.
    pub async fn admin_fsck(
        &self,
        user: &LocalUser,
        ask: &FsckAsk,
        tell: &Teller,
    ) -> Result<FsckReport, Error> {
        Box::pin(self.0.fsck(user, ask, tell)).await
    }
}

impl Inner {
    /// Looks at the datastores asked for, all if none is named, and repairs what was asked to be repaired.
    pub(crate) async fn fsck(
        self: &Arc<Self>,
        user: &LocalUser,
        ask: &FsckAsk,
        tell: &Teller,
    ) -> Result<FsckReport, Error> {
        let nobodys = self.vouched_for(&ask.nobody_has)?;
        let mut report = FsckReport::default();
        for ds in self.asked_datastores(&ask.datastores).await? {
            if tell.should_stop() {
                break;
            }
            let looked = Box::pin(self.fsck_datastore(ask.repair, &nobodys, &ds, tell)).await;
            match looked {
                Ok((looked, findings)) => {
                    report.looked.push(looked);
                    report.findings.extend(findings);
                }
                Err(why) => report.unread.push((ds, why.to_string())),
            }
        }
        for repaired in report
            .findings
            .iter()
            .filter(|f| f.state == FsckState::Repaired)
        {
            let object = match repaired.volume.is_empty() {
                true => format!("[{}] {}", repaired.datastore, repaired.path),
                false => repaired.volume.clone(),
            };
            let detail = format!("{}: {}", repaired.kind.name(), repaired.action);
            self.audit(Actor::Admin(user), "fsck", object, None, detail)
                .await;
        }
        Ok(report)
    }

    /// The volumes of which an administrator says that no VM anywhere has them.
    fn vouched_for(&self, names: &[String]) -> Result<Vec<VolumeAddress>, Error> {
        let address = |name: &String| {
            let address = VolumeAddress::parse(name)?;
            match address.datastore {
                Some(_) => Ok(address),
                None => Err(Error::Invalid {
                    what: "volume",
                    problem: format!("say on which datastore: {name}@DATASTORE"),
                }),
            }
        };
        names.iter().map(address).collect()
    }

    async fn asked_datastores(&self, asked: &[String]) -> Result<Vec<DatastoreName>, Error> {
        if asked.is_empty() {
            let all = self.datastores().await?.into_iter();
            return Ok(all.map(|d| d.name).collect());
        }
        let mut found = Vec::new();
        for name in asked {
            let name = DatastoreName::new(name)?;
            let info = self.datastore_named(&name).await?;
            if !found.contains(&info.name) {
                found.push(info.name);
            }
        }
        Ok(found)
    }

    async fn fsck_datastore(
        self: &Arc<Self>,
        repair: bool,
        nobodys: &[VolumeAddress],
        ds: &DatastoreName,
        tell: &Teller,
    ) -> Result<(FsckLooked, Vec<FsckFinding>), Error> {
        let mut looked = FsckLooked::of(ds);
        let (whole, refused) = self.fsck_whole(ds, repair).await?;
        if refused {
            return Ok((looked, whole));
        }
        let catalog = self.catalog(ds, tell).await?;
        looked.count(&catalog);
        let mut suspicions = verdict::of(&catalog, self.now());
        if !suspicions.is_empty() {
            sleep(self.settings.poll.saturating_mul(BETWEEN_LOOKS)).await;
            let again = self.catalog(ds, &Teller::default()).await?;
            let still = verdict::of(&again, self.now());
            suspicions.retain(|s| still.contains(s));
            let suspicions = self
                .act_on(repair, nobodys, &again, suspicions, tell)
                .await?;
            let mut findings = whole;
            findings.extend(suspicions);
            findings.extend(self.fsck_ledgers(ds, repair, &again).await?);
            return Ok((looked, findings));
        }
        let mut findings = whole;
        findings.extend(self.fsck_ledgers(ds, repair, &catalog).await?);
        Ok((looked, findings))
    }

    /// Repairs, or says what would be done.
    async fn act_on(
        self: &Arc<Self>,
        repair: bool,
        nobodys: &[VolumeAddress],
        catalog: &catalog::Catalog,
        suspicions: Vec<Suspicion>,
        tell: &Teller,
    ) -> Result<Vec<FsckFinding>, Error> {
        let rebuilds: Vec<_> = suspicions.iter().filter_map(Suspicion::rebuilds).collect();
        let evidence = self.evidence(catalog, &rebuilds, nobodys, repair).await?;
        let mut findings = Vec::with_capacity(suspicions.len());
        tell.total(u64::try_from(suspicions.len()).unwrap_or(0));
        tell.done(0);
        // Records first: a claim is made anew for a record that is whole.
        for suspicion in &suspicions {
            if tell.should_stop() {
                break;
            }
            findings.push(
                self.act_on_one(repair, catalog, &evidence, suspicion)
                    .await?,
            );
            tell.one_more();
        }
        Ok(findings)
    }
}
