//! vSAN policies, where the original kept them: files in `dockvols/policies` of a vSAN datastore, one per policy.

use vdvs_domain::options::OptionError;
use vdvs_domain::{Error, PolicyName};

use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ports::{DatastoreInfo, DatastoreKind, StorageError};

/// What the original left beside policies while it changed them.
const LEFTOVERS: [&str; 3] = [".old", ".tmp", ".failed_volume_updates"];

impl Inner {
    /// Whether a volume on `ds` may have this policy.
    pub(crate) async fn check_policy(
        &self,
        policy: Option<&PolicyName>,
        ds: &DatastoreInfo,
    ) -> Result<(), Error> {
        let Some(policy) = policy else {
            return Ok(());
        };
        let is_vsan = |d: &&DatastoreInfo| d.kind == DatastoreKind::Vsan;
        let all = self.datastores().await?;
        if ds.kind != DatastoreKind::Vsan {
            let vsan = all.iter().filter(is_vsan);
            return Err(OptionError::PolicyElsewhere {
                datastore: ds.name.clone(),
                kind: ds.kind.to_string(),
                vsan: vsan.map(|d| d.name.to_string()).collect(),
            }
            .into());
        }
        // The original's place is the host's first vSAN datastore; policies beside the volume count as well.
        let mut known = Vec::new();
        let first = all.iter().find(is_vsan).filter(|d| d.name != ds.name);
        for place in [Some(ds), first].into_iter().flatten() {
            known.extend(self.policies_on(place).await?);
        }
        if known.iter().any(|k| k == policy.as_str()) {
            return Ok(());
        }
        known.sort();
        known.dedup();
        let name = policy.clone();
        Err(OptionError::UnknownPolicy { name, known }.into())
    }

    async fn policies_on(&self, ds: &DatastoreInfo) -> Result<Vec<String>, Error> {
        let folder = layout::policies();
        let entries = match self.ports.datastores.read_dir(&ds.name, &folder).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
            Err(why) => return Err(unavailable(&ds.name, &why)),
        };
        Ok(entries
            .into_iter()
            .filter(|e| !e.is_dir && PolicyName::new(&e.name).is_ok())
            .map(|e| e.name)
            .filter(|name| !LEFTOVERS.iter().any(|end| name.ends_with(end)))
            .collect())
    }
}
