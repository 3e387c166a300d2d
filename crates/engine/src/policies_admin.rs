//! vSAN policies as an administrator makes, changes, removes and lists them.
//!
//! * A change is one change of the configuration document; volumes follow it, each on its own. A volume that does not
//!   take the new content keeps what it has, is named, and is tried again by the same command.
//! * *In use* is counted over the records of all vSAN datastores. While one of them cannot be read, nobody knows, and
//!   nothing is removed.
//! * A create reads the policy after its record names it; a remove counts again after the policy is gone, and puts it
//!   back if somebody was in between. So no volume is left with a policy that is not there.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use vdvs_domain::access::StoragePolicy;
use vdvs_domain::error::full_name;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::policy::{self, FailedVolume, PolicyFault, Updated};
use vdvs_domain::{DatastoreName, Error, OperationKind, PolicyName};

use crate::Engine;
use crate::api::{Actor, LocalUser, PolicyUse, Teller};
use crate::governance::{Governed, Rules};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::policies::Brought;
use crate::ports::{DatastoreInfo, DatastoreKind};

/// Volumes that are given a policy at once. Each is a call that a vSAN may take seconds for.
const AT_ONCE: usize = 4;

impl Engine {
    /// The vSAN policies, and how many volumes name each.
    ///
    /// # Errors
    /// When nothing is known of any configuration.
    pub async fn policies(&self) -> Result<Vec<PolicyUse>, Error> {
        Box::pin(self.0.policy_list()).await
    }

    /// Makes a policy. Returns what a person should know beside it.
    ///
    /// # Errors
    /// [`PolicyFault`], [`ConfigFault`]
    pub async fn policy_create(
        &self,
        user: &LocalUser,
        name: &PolicyName,
        content: &str,
    ) -> Result<Vec<String>, Error> {
        Box::pin(self.0.policy_create(user, name, content)).await
    }

    /// Changes a policy and gives it to the volumes that name it, telling how far it is. Returns results in lines.
    ///
    /// # Errors
    /// [`PolicyFault`], [`ConfigFault`]; with [`PolicyFault::NotEverywhere`] the policy has its new content, and some
    /// volumes do not.
    pub async fn policy_update(
        &self,
        user: &LocalUser,
        name: &PolicyName,
        content: &str,
        tell: &Teller,
    ) -> Result<Vec<String>, Error> {
        Box::pin(self.0.policy_update(user, name, content, tell)).await
    }

    /// Removes a policy that no volume names.
    ///
    /// # Errors
    /// [`PolicyFault`], [`ConfigFault`]
    pub async fn policy_remove(&self, user: &LocalUser, name: &PolicyName) -> Result<(), Error> {
        Box::pin(self.0.policy_remove(user, name)).await
    }
}

/// The volumes that name policies of one configuration.
#[derive(Debug, Default)]
struct Users {
    volumes: Vec<Indexed>,
    /// vSAN datastores that may hold more.
    unreadable: Vec<DatastoreName>,
}

impl Users {
    fn of(&self, name: &PolicyName) -> impl Iterator<Item = &Indexed> {
        let named = move |v: &&Indexed| v.record.options.policy.as_ref() == Some(name);
        self.volumes.iter().filter(named)
    }
}

fn full(volume: &Indexed) -> String {
    full_name(&volume.place.name, &volume.place.ds).to_string()
}

impl Inner {
    /// The vSAN datastores of this host.
    async fn vsan_datastores(&self) -> Result<Vec<DatastoreInfo>, Error> {
        let mut all = self.datastores().await?;
        all.retain(|d| d.kind == DatastoreKind::Vsan);
        match all.is_empty() {
            true => Err(PolicyFault::NoVsan.into()),
            false => Ok(all),
        }
    }

    /// The one configuration whose policies the vSAN datastores of this host use. With `first`, one that nobody used
    /// yet is made ready for it.
    async fn policy_home(&self, first: bool) -> Result<(DatastoreName, Arc<Rules>), Error> {
        let mut found: Vec<Arc<Rules>> = Vec::new();
        let (mut fresh, mut unread) = (None, None);
        for ds in self.vsan_datastores().await? {
            match self.governed_in_time(&ds).await {
                Ok(Governed::By(rules)) => {
                    if found.iter().all(|r| r.config != rules.config) {
                        found.push(rules);
                    }
                }
                Ok(Governed::Fresh(_)) => fresh = fresh.or(Some(ds.name)),
                Ok(Governed::Not(_)) => {}
                Err(why) => unread = unread.or(Some(why)),
            }
        }
        match (found.as_slice(), fresh.filter(|_| first), unread) {
            ([one], _, _) => Ok((one.home.clone(), Arc::clone(one))),
            ([], Some(ds), None) => {
                let rules = self.establish(&ds).await?;
                Ok((rules.home.clone(), rules))
            }
            ([], _, Some(why)) => Err(why),
            ([], None, None) => Err(ConfigFault::InitNeeded.into()),
            (several, _, _) => Err(ConfigFault::Several {
                homes: several.iter().map(|r| r.home.to_string()).collect(),
            }
            .into()),
        }
    }

    /// The volumes that name policies of a configuration, also those being made.
    async fn policy_users(&self, rules: &Rules) -> Result<Users, Error> {
        let mut users = Users::default();
        let all = self.datastores().await?;
        for ds in all.into_iter().filter(|d| d.kind == DatastoreKind::Vsan) {
            let governed = match self.governed_in_time(&ds).await {
                Ok(governed) => governed,
                Err(_) => {
                    users.unreadable.push(ds.name);
                    continue;
                }
            };
            if !matches!(&governed, Governed::By(its) if its.config == rules.config) {
                continue;
            }
            match self.answering(&ds.name, self.indexed_on(&ds.name)).await {
                Ok(found) => users.volumes.extend(found),
                Err(_) => users.unreadable.push(ds.name),
            }
        }
        let going = |v: &Indexed| {
            let operation = v.record.operation.as_ref();
            operation.is_some_and(|o| o.kind == OperationKind::Delete)
        };
        users
            .volumes
            .retain(|v| v.record.options.policy.is_some() && !going(v));
        users
            .volumes
            .sort_by(|a, b| (&a.place.name, &a.place.ds).cmp(&(&b.place.name, &b.place.ds)));
        Ok(users)
    }

    /// Makes a policy. Returns what a person should know beside it.
    pub(crate) async fn policy_create(
        &self,
        user: &LocalUser,
        name: &PolicyName,
        content: &str,
    ) -> Result<Vec<String>, Error> {
        let (home, _) = self.policy_home(true).await?;
        let created = self
            .change_config(&home, &Actor::Admin(user), |access| {
                let created = policy::create(access, name, content)?;
                let what = format!("policy create {name}: {}", created.policy.content);
                Ok((created, what))
            })
            .await?;
        Ok(created.warnings)
    }

    /// Changes a policy, then gives it to every volume that names it. Volumes that did not take it are an error that
    /// names them; those that did have it.
    pub(crate) async fn policy_update(
        &self,
        user: &LocalUser,
        name: &PolicyName,
        content: &str,
        tell: &Teller,
    ) -> Result<Vec<String>, Error> {
        let (home, rules) = self.policy_home(false).await?;
        let updated = self
            .change_config(&home, &Actor::Admin(user), |access| {
                let updated = policy::update(access, name, content)?;
                let what = format!(
                    "policy update {name}: version {}, {}",
                    updated.policy.version, updated.policy.content
                );
                Ok((updated, what))
            })
            .await?;
        let users = self.policy_users(&rules).await?;
        let concerned: Vec<Indexed> = users.of(name).cloned().collect();
        tell.total(u64::try_from(concerned.len()).unwrap_or(u64::MAX));
        let mut tries = stream::iter(concerned)
            .map(|volume| async move {
                let tried = match tell.should_stop() {
                    true => Err("the agent is stopping".to_owned()),
                    false => self.bring_policy(&volume.place).await.map_err(plain),
                };
                (volume, tried)
            })
            .buffer_unordered(AT_ONCE);
        let (mut count, mut failed) = (0_usize, Vec::new());
        while let Some((volume, tried)) = tries.next().await {
            match tried {
                Ok(Brought::HasItNow) => count = count.saturating_add(1),
                Ok(Brought::HadIt | Brought::NotConcerned) => {}
                Err(why) => {
                    let name = full(&volume);
                    tell.line(format!("{name}: {why}"));
                    failed.push(FailedVolume { name, why });
                }
            }
            tell.one_more();
        }
        drop(tries);
        failed.sort_by(|a, b| a.name.cmp(&b.name));
        failed.extend(users.unreadable.iter().map(|ds| FailedVolume {
            name: format!("any on datastore {ds}"),
            why: "it cannot be read".to_owned(),
        }));
        self.audit_update(user, name, &updated, count, &failed)
            .await;
        match (failed.is_empty(), updated.changed || count > 0) {
            (false, _) => Err(PolicyFault::NotEverywhere {
                updated: count,
                failed,
            }
            .into()),
            (true, false) => Err(PolicyFault::Identical.into()),
            (true, true) if count == 0 => Ok(Vec::new()),
            (true, true) => Ok(vec![format!("Successfully updated: {count} volumes.")]),
        }
    }

    async fn audit_update(
        &self,
        user: &LocalUser,
        name: &PolicyName,
        updated: &Updated,
        count: usize,
        failed: &[FailedVolume],
    ) {
        if count == 0 && failed.is_empty() {
            return;
        }
        let version = updated.policy.version;
        let mut detail = format!("version {version} given to {count} volumes");
        if let Some(first) = failed.first() {
            detail.push_str(&format!(
                "; {} failed, the first {}: {}",
                failed.len(),
                first.name,
                first.why
            ));
        }
        let object = format!("policy {name}");
        self.audit(Actor::Admin(user), "policy update", object, None, detail)
            .await;
    }

    /// Removes a policy that no volume names.
    pub(crate) async fn policy_remove(
        &self,
        user: &LocalUser,
        name: &PolicyName,
    ) -> Result<(), Error> {
        let (home, rules) = self.policy_home(false).await?;
        if policy::find(&rules.access, name).is_some() {
            self.unused(&rules, name).await?;
        }
        let actor = Actor::Admin(user);
        let removed = self
            .change_config(&home, &actor, |access| {
                let removed = policy::remove(access, name)?;
                Ok((removed, format!("policy rm {name}")))
            })
            .await?;
        // Whoever began to use it in between wrote so before it looked for it.
        match self.unused(&rules, name).await {
            Ok(()) => Ok(()),
            Err(used) => {
                self.put_back(&home, &actor, removed).await?;
                Err(used)
            }
        }
    }

    async fn put_back(
        &self,
        home: &DatastoreName,
        actor: &Actor<'_>,
        removed: StoragePolicy,
    ) -> Result<(), Error> {
        self.change_config(home, actor, |access| {
            let name = &removed.name;
            if policy::find(access, name).is_none() {
                access.policies.push(removed.clone());
                access.policies.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Ok(((), format!("policy {name} is in use and stays")))
        })
        .await
    }

    async fn unused(&self, rules: &Rules, name: &PolicyName) -> Result<(), Error> {
        let users = self.policy_users(rules).await?;
        let volumes: Vec<String> = users.of(name).map(full).collect();
        match (volumes.is_empty(), users.unreadable.first()) {
            (false, _) => Err(PolicyFault::InUse { volumes }.into()),
            (true, Some(ds)) => Err(PolicyFault::MayBeInUse(ds.to_string()).into()),
            (true, None) => Ok(()),
        }
    }

    /// The policies of all configurations this host follows, with how many volumes name each.
    pub(crate) async fn policy_list(&self) -> Result<Vec<PolicyUse>, Error> {
        let mut listed = Vec::new();
        for (_, rules) in self.homes().await? {
            if rules.access.policies.is_empty() {
                continue;
            }
            let users = self.policy_users(&rules).await?;
            let used = |policy: &StoragePolicy| PolicyUse {
                volumes: users.of(&policy.name).count(),
                outdated: users
                    .of(&policy.name)
                    .filter(|v| v.record.exists())
                    .filter(|v| v.record.policy_version != Some(policy.version))
                    .count(),
                unreadable: users.unreadable.clone(),
                policy: policy.clone(),
            };
            listed.extend(rules.access.policies.iter().map(used));
        }
        listed.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        Ok(listed)
    }
}

/// Why one of many volumes failed, without what is said of a volume that is asked for alone.
fn plain(why: Error) -> String {
    match why {
        Error::Policy(PolicyFault::NotForNew { why, .. }) => why,
        other => other.to_string(),
    }
}
