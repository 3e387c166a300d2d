//! vSAN policies of volumes: which one a new volume may have, and giving it to a disk.
//!
//! A policy stands in the configuration document, with a version that rises with its content. A record names the policy
//! and the version its disk has, so whoever finds the two different knows what is left to do, also after a crash.
//!
//! ```text
//!   read the policy (v) ─► give it to the disk ─► read the policy again: still v ─► v in the record
//!        ▲                                                      └─ newer ─┐
//!        └───────────────────────────────────────────────────────────────┘
//! ```
//! The disk first, then the record: giving a disk the policy it has does nothing, and a host that gives it an older one
//! late sees that in its second look and gives it the newer one.

use vdvs_domain::access::AccessConfig;
use vdvs_domain::error::full_name;
use vdvs_domain::options::OptionError;
use vdvs_domain::policy::{self, PolicyExpression, PolicyFault};
use vdvs_domain::{CreateOptions, Error, PolicyName};

use crate::governance::Rules;
use crate::inner::{Inner, unavailable};
use crate::layout::{self, Place};
use crate::ports::{DatastoreInfo, DatastoreKind, StorageError};
use crate::records::{Change, Stored};

/// What the original left beside policies while it changed them.
const LEFTOVERS: [&str; 3] = [".old", ".tmp", ".failed_volume_updates"];
/// The original's policies have no bound; what is larger is none.
const MAX_ORIGINAL: usize = 64 * 1024;
/// Policies of the original that are looked at.
const MAX_ORIGINALS: usize = 1000;
/// Times a policy may change while it is given to one disk.
const ATTEMPTS: usize = 10;

/// What a look at a volume's policy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    /// It has the newest version, and had it.
    HadIt,
    /// It has it now.
    HasItNow,
    /// It names no policy that there is, or is gone.
    NotConcerned,
}

/// A policy that the original left, as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OriginalPolicy {
    name: String,
    content: String,
}

impl Inner {
    /// Whether a new volume on `ds` may have this policy.
    pub(crate) async fn check_policy(
        &self,
        asked: Option<&PolicyName>,
        ds: &DatastoreInfo,
        rules: &Rules,
    ) -> Result<(), Error> {
        let Some(asked) = asked else {
            return Ok(());
        };
        if ds.kind != DatastoreKind::Vsan {
            let all = self.datastores().await?;
            let vsan = all.iter().filter(|d| d.kind == DatastoreKind::Vsan);
            return Err(OptionError::PolicyElsewhere {
                datastore: ds.name.clone(),
                kind: ds.kind.to_string(),
                vsan: vsan.map(|d| d.name.to_string()).collect(),
            }
            .into());
        }
        match policy::find(&rules.access, asked) {
            Some(_) => Ok(()),
            None => {
                let name = asked.clone();
                Err(OptionError::UnknownPolicy { name }.into())
            }
        }
    }

    /// A clone does not inherit a policy that its datastore's configuration does not have.
    pub(crate) fn keep_known_policy(options: &mut CreateOptions, rules: &Rules) {
        let known = |name: &PolicyName| policy::find(&rules.access, name).is_some();
        options.policy = options.policy.take().filter(known);
    }

    /// Gives a new disk its policy. Returns the version it has; none when it has none.
    pub(crate) async fn give_first_policy(
        &self,
        place: &Place,
        options: &CreateOptions,
    ) -> Result<Option<u32>, Error> {
        let Some(name) = &options.policy else {
            return Ok(None);
        };
        match self.give_policy(place, name).await? {
            Some(version) => Ok(Some(version)),
            None => {
                let name = name.clone();
                Err(OptionError::UnknownPolicy { name }.into())
            }
        }
    }

    /// Gives a disk the newest content of a policy. `None`: there is no such policy.
    async fn give_policy(&self, place: &Place, name: &PolicyName) -> Result<Option<u32>, Error> {
        let disk = place.disk();
        for _ in 0..ATTEMPTS {
            let Some((expression, version)) = self.policy_now(place, name).await? else {
                return Ok(None);
            };
            let given = self
                .ports
                .datastores
                .set_policy(&disk.datastore, &disk.path, &expression)
                .await;
            given.map_err(|why| match why {
                StorageError::PolicyRefused(why) => Error::Policy(PolicyFault::NotForNew {
                    name: full_name(&place.name, &place.ds).to_string(),
                    why,
                }),
                other => unavailable(&place.ds, &other),
            })?;
            let still = self.policy_now(place, name).await?;
            if still.is_some_and(|(_, now)| now == version) {
                return Ok(Some(version));
            }
        }
        Err(Error::Contended {
            name: full_name(&place.name, &place.ds),
        })
    }

    /// A policy as the configuration has it now, with its version.
    async fn policy_now(
        &self,
        place: &Place,
        name: &PolicyName,
    ) -> Result<Option<(PolicyExpression, u32)>, Error> {
        let Some(rules) = self.governed_now(&place.ds).await? else {
            return Ok(None);
        };
        let Some(policy) = policy::find(&rules.access, name) else {
            return Ok(None);
        };
        let expression = PolicyExpression::parse(&policy.content);
        let expression = expression.map_err(|why| Error::Damaged {
            what: format!("policy {name} of the configuration on {}", rules.home),
            why: why.to_string(),
        })?;
        Ok(Some((expression, policy.version)))
    }

    /// Gives a volume's disk the newest version of the policy it names, and writes down that it has it.
    pub(crate) async fn bring_policy(&self, place: &Place) -> Result<Brought, Error> {
        let Some(stored) = self.read_record(place).await? else {
            return Ok(Brought::NotConcerned);
        };
        // Of one being made, its maker looks to it.
        let Some(name) = stored.record.options.policy.clone() else {
            return Ok(Brought::NotConcerned);
        };
        if !stored.record.exists() {
            return Ok(Brought::NotConcerned);
        }
        let Some((wanted, version)) = self.policy_now(place, &name).await? else {
            return Ok(Brought::NotConcerned);
        };
        if stored.record.policy_version == Some(version) && self.has_policy(place, &wanted).await? {
            return Ok(Brought::HadIt);
        }
        let given = match self.give_policy(place, &name).await {
            Ok(Some(version)) => version,
            Ok(None) => return Ok(Brought::NotConcerned),
            Err(why) => {
                // It may be gone meanwhile, and its disk with it.
                return match self.read_record(place).await? {
                    Some(now) if now.record.exists() => Err(why),
                    _ => Ok(Brought::NotConcerned),
                };
            }
        };
        self.policy_given(place, &name, given).await?;
        Ok(Brought::HasItNow)
    }

    /// Whether a disk has this policy, as far as the datastore can say.
    async fn has_policy(&self, place: &Place, wanted: &PolicyExpression) -> Result<bool, Error> {
        let disk = place.disk();
        let found = self
            .ports
            .datastores
            .policy(&disk.datastore, &disk.path)
            .await;
        let found = found.map_err(|why| unavailable(&place.ds, &why))?;
        Ok(found.is_none_or(|found| found.same_as(wanted)))
    }

    async fn policy_given(
        &self,
        place: &Place,
        name: &PolicyName,
        version: u32,
    ) -> Result<Stored, Error> {
        self.change(place, |record| {
            let named = record.options.policy.as_ref() == Some(name);
            if !named || record.policy_version == Some(version) {
                return Ok(Change::Keep);
            }
            let mut next = record.clone();
            next.policy_version = Some(version);
            Ok(next.into())
        })
        .await
    }

    /// A policy may have changed between the disk's making and the end of the create, when nobody else looked at the
    /// volume yet. What cannot be done now shows as outdated.
    pub(crate) async fn catch_up_with_policy(&self, stored: &Stored) {
        if stored.record.options.policy.is_some()
            && let Err(why) = self.bring_policy(&stored.place).await
        {
            tracing::info!(volume = %stored.name(), %why, "its policy changed while it was made; apply it with: vdvs policy update");
        }
    }

    /// Adds the policies that the original left on the vSAN datastores of this host. Only for who imports: otherwise
    /// those files are used for nothing. Returns a sentence for each that cannot be taken as it is.
    pub(crate) async fn take_original_policies(
        &self,
        access: &mut AccessConfig,
    ) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        let all = self.datastores().await?;
        for ds in all.iter().filter(|d| d.kind == DatastoreKind::Vsan) {
            let found = match self.answering(&ds.name, self.original_policies(ds)).await {
                Ok(found) => found,
                Err(why) => {
                    warnings.push(format!("policies on datastore {}: {why}", ds.name));
                    continue;
                }
            };
            for OriginalPolicy { name, content } in found {
                let taken = PolicyName::new(&name)
                    .map_err(Error::from)
                    .and_then(|name| Ok(policy::create(access, &name, &content)?));
                match taken {
                    Ok(created) => warnings.extend(created.warnings),
                    Err(why) => warnings.push(format!(
                        "policy {:?} on datastore {} does not come along: {why}",
                        name, ds.name
                    )),
                }
            }
        }
        Ok(warnings)
    }

    /// What the original kept in `dockvols/policies` of a vSAN datastore.
    async fn original_policies(&self, ds: &DatastoreInfo) -> Result<Vec<OriginalPolicy>, Error> {
        let folder = layout::policies();
        let store = &self.ports.datastores;
        let entries = match store.read_dir(&ds.name, &folder).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
            Err(why) => return Err(unavailable(&ds.name, &why)),
        };
        let is_policy = |name: &String| !LEFTOVERS.iter().any(|end| name.ends_with(end));
        let files = entries.into_iter().filter(|e| !e.is_dir).map(|e| e.name);
        let mut found = Vec::new();
        for name in files.filter(is_policy).take(MAX_ORIGINALS) {
            let Ok(file) = folder.join(&name) else {
                continue;
            };
            let content = match store.read(&ds.name, &file, MAX_ORIGINAL).await {
                Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
                Err(StorageError::NotFound(_) | StorageError::TooLarge(_)) => continue,
                Err(why) => return Err(unavailable(&ds.name, &why)),
            };
            found.push(OriginalPolicy { name, content });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}
