//! Policies of disks on a lab's vSAN: the expression lies beside the disk, and one that the declared number of hosts
//! cannot satisfy is refused, as a vSAN refuses it.
//!
//! The file is `<disk>.policy` for the disk `<disk>.vmdk`. It goes with its disk.

use std::fs;
use std::io;
use std::path::PathBuf;

use vdvs_domain::policy::{MAX_TEXT, PolicyExpression};
use vdvs_engine::ports::{DsPath, StorageError};

use crate::files;
use crate::folder::Folder;

const EXTENSION: &str = "policy";

impl Folder {
    fn policy_file(&self, disk: &DsPath) -> PathBuf {
        self.at(disk).with_extension(EXTENSION)
    }

    /// Gives a disk a policy; `hosts` contribute storage to this datastore, none: it is no vSAN.
    pub(crate) fn set_policy(
        &self,
        disk: &DsPath,
        policy: &PolicyExpression,
        hosts: Option<u32>,
    ) -> Result<(), StorageError> {
        let refused = |why: String| Err(StorageError::PolicyRefused(why));
        let Some(hosts) = hosts else {
            return refused("the datastore is no vSAN".to_owned());
        };
        if let Some(why) = policy.unsatisfiable_with(hosts) {
            return refused(why);
        }
        let missing = || self.fault(disk, &io::ErrorKind::NotFound.into());
        self.stat_disk(disk)?.ok_or_else(missing)?;
        let file = self.policy_file(disk);
        files::replace(&file, format!("{policy}\n").as_bytes())
            .map_err(|e| self.fault(disk, &e))?;
        match self.stat_disk(disk)? {
            Some(_) => Ok(()),
            None => {
                // It was deleted meanwhile, and its policy with it.
                self.forget_policy(disk)?;
                Err(missing())
            }
        }
    }

    /// The policy a disk was given.
    pub(crate) fn policy(&self, disk: &DsPath) -> Result<Option<PolicyExpression>, StorageError> {
        match files::read_text(&self.policy_file(disk)) {
            // Half a policy is none that anybody knows.
            Ok(text) if text.len() <= MAX_TEXT + 1 => Ok(PolicyExpression::parse(&text).ok()),
            Ok(_) => Ok(None),
            Err(e) => match self.fault(disk, &e) {
                StorageError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Removes what is kept of a disk's policy.
    pub(crate) fn forget_policy(&self, disk: &DsPath) -> Result<(), StorageError> {
        match fs::remove_file(self.policy_file(disk)).map_err(|e| self.fault(disk, &e)) {
            Ok(()) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use tempfile::{TempDir, tempdir};
    use uuid::Uuid;
    use vdvs_domain::{Capacity, DatastoreName, DiskFormat};
    use vdvs_engine::ports::{Datastores, DiskSpec, Progress};

    use super::*;
    use crate::config::Watched;
    use crate::{HostConfig, LabDatastores};

    fn host(kind: &str, hosts: &str) -> TempDir {
        let dir = tempdir().unwrap();
        create_dir(dir.path().join("files")).unwrap();
        let text = format!(
            r#"{{"name":"esx01","host_id":"{}","datastores":[{{"name":"ds","type":"{kind}","path":"{}"{hosts}}}]}}"#,
            Uuid::nil(),
            dir.path().join("files").display()
        );
        write(dir.path().join("host.json"), text).unwrap();
        dir
    }

    fn folder(dir: &TempDir) -> Folder {
        let config = Watched::load(dir.path()).unwrap();
        Folder::find(&config, DatastoreName::new("ds").unwrap()).unwrap()
    }

    fn policy(failures: u32) -> PolicyExpression {
        PolicyExpression::parse(&format!("((\"hostFailuresToTolerate\" i{failures}))")).unwrap()
    }

    #[tokio::test]
    async fn a_disk_on_vsan_keeps_the_policy_it_was_given_and_refuses_what_the_hosts_cannot_do() {
        let dir = host("vsan", r#","storage_hosts":3"#);
        let (store, ds) = (
            LabDatastores::new(dir.path()).unwrap(),
            DatastoreName::new("ds").unwrap(),
        );
        let disk = DsPath::new("dockvols/v.vmdk").unwrap();
        let none = store.set_policy(&ds, &disk, &policy(1)).await;
        assert!(matches!(none, Err(StorageError::NotFound(_))), "{none:?}");
        let spec = DiskSpec {
            capacity: Capacity::SMALLEST,
            format: DiskFormat::Thin,
            uuid: Uuid::nil(),
        };
        store
            .make_dir(&ds, &DsPath::new("dockvols").unwrap())
            .await
            .unwrap();
        let progress = Progress::default().into();
        store
            .create_disk(&ds, &disk, &spec, &progress)
            .await
            .unwrap();
        assert_eq!(store.policy(&ds, &disk).await, Ok(None));
        store.set_policy(&ds, &disk, &policy(1)).await.unwrap();
        let refused = store.set_policy(&ds, &disk, &policy(2)).await.unwrap_err();
        assert!(refused.to_string().contains("needs 5 hosts"), "{refused}");
        assert_eq!(store.policy(&ds, &disk).await, Ok(Some(policy(1))));
        write(folder(&dir).policy_file(&disk), "((\"hostFail").unwrap();
        assert_eq!(store.policy(&ds, &disk).await, Ok(None), "torn");
        store.set_policy(&ds, &disk, &policy(0)).await.unwrap();
        folder(&dir).forget_policy(&disk).unwrap();
        assert_eq!(store.policy(&ds, &disk).await, Ok(None));
    }

    #[test]
    fn only_vsan_has_policies_and_three_hosts_unless_it_says_more() {
        let disk = DsPath::new("v.vmdk").unwrap();
        let dir = host("vmfs", "");
        let refused = folder(&dir)
            .set_policy(&disk, &policy(0), None)
            .unwrap_err();
        assert!(refused.to_string().contains("no vSAN"), "{refused}");
        let hosts = |dir: &TempDir| HostConfig::load(dir.path()).unwrap().storage_hosts("ds");
        assert_eq!(hosts(&dir), None);
        assert_eq!(hosts(&host("vsan", "")), Some(3));
        assert_eq!(hosts(&host("vsan", r#","storage_hosts":7"#)), Some(7));
    }
}
