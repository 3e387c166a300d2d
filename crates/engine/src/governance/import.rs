//! `config import`: the original's database becomes this configuration.
//!
//! * A VM of the original is known by its BIOS UUID, which its configuration file tells; here members are instance
//!   UUIDs. One that no host knows stays a member by name, under a stand-in identity no VM can have, and is warned about.
//! * Limits in MB become bytes; datastores' URLs become names.
//! * vSAN policies lie beside the original's volumes; those that can be read and parsed come along.
//! * What the original counted is not taken over: the ledgers count what is present.
//! * Datastores that have the original's `dockvols` follow the configuration from then on.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::access::{
    AccessConfig, DatastoreScope, Group, Member, Members, Privilege, StoragePolicy,
};
use vdvs_domain::capacity::MAX_BYTES;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::policy;
use vdvs_domain::{Capacity, DatastoreName, Error, GroupId, GroupName};

use super::backup::sound;
use super::first_use::First;
use super::init::refused;
use super::state::{Stand, location};
use super::words::differences;
use crate::api::Actor;
use crate::config::{ConfigDone, Original, OriginalGroup, OriginalPrivilege};
use crate::inner::Inner;
use crate::proof::split_config_path;

/// Largest configuration file of a VM that is read.
const MAX_VMX: usize = 1 << 20;
/// Turns a BIOS UUID into the identity that stands for a VM nobody found, and back.
const STAND_IN: u128 = 0x8f3c_51d2_6e0b_47a9_b1d4_2c7e_9a60_f385;
const MEGABYTE: u64 = 1 << 20;

/// A VM as its configuration file tells: instance UUID and name.
type ByBios = HashMap<Uuid, Vec<(Uuid, String)>>;

/// What turns the original's words into ours.
struct Dictionary {
    vms: ByBios,
    datastores: Vec<DatastoreName>,
    warnings: Vec<String>,
}

impl Inner {
    pub(super) async fn config_import(
        &self,
        who: &Actor<'_>,
        original: &Original,
        datastore: Option<&DatastoreName>,
        dry_run: bool,
    ) -> Result<ConfigDone, Error> {
        let (access, warnings) = self.translate(original).await?;
        let asked = match datastore {
            Some(asked) => Some(self.datastore_of_config(asked).await?),
            None => None,
        };
        let mut done = ConfigDone {
            lines: Vec::new(),
            warnings,
        };
        let what = format!(
            "imported from the original's database of schema {}.{}: {} vmgroups",
            original.schema.0,
            original.schema.1,
            original.groups.len()
        );
        let home = match self.home_or_removed().await {
            Ok((home, now)) => {
                let after = merged(&now, &access)?;
                done.lines = differences(&now, &after);
                if !dry_run {
                    self.revive_document(&home, who, |document| {
                        document.access = merged(&document.access, &access)?;
                        Ok(((), what.clone()))
                    })
                    .await?;
                }
                home
            }
            Err(Error::Config(ConfigFault::InitNeeded)) => {
                let Some(home) = asked.clone() else {
                    return Err(refused(
                        "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'. Say where the imported one is to lie: vdvs config import FILE --datastore DATASTORE",
                    ));
                };
                sound(&access)?;
                done.lines
                    .push(format!("Creating new DB at {}", location(&home)));
                let nothing = AccessConfig {
                    groups: Vec::new(),
                    ..access.clone()
                };
                done.lines.extend(differences(&nothing, &access));
                if !dry_run {
                    self.mark(&home, &First::With(Box::new(access))).await?;
                    self.change_document(&home, who, |_| Ok(((), what.clone())))
                        .await?;
                }
                home
            }
            Err(why) => return Err(why),
        };
        self.gather(who, &home, asked, dry_run, &mut done).await?;
        Ok(done)
    }

    /// Puts the datastores of the original, and the one that was named, under the configuration on `home`.
    async fn gather(
        &self,
        who: &Actor<'_>,
        home: &DatastoreName,
        asked: Option<DatastoreName>,
        dry_run: bool,
        done: &mut ConfigDone,
    ) -> Result<(), Error> {
        for info in self.datastores().await? {
            let ds = info.name;
            if ds == *home || !info.accessible {
                continue;
            }
            let joins = match self.answering(&ds, self.stand_of(&ds)).await? {
                Stand::Unmarked => true,
                Stand::Unused => asked.as_ref() == Some(&ds),
                _ => false,
            };
            if !joins {
                continue;
            }
            done.lines.push(format!(
                "Datastore {ds} follows the configuration on {home}"
            ));
            if !dry_run {
                let (_, rules) = self.one_home().await?;
                self.mark(&ds, &First::Follow(Arc::clone(&rules))).await?;
                self.audit_follow(who, &ds, &rules).await;
            }
        }
        Ok(())
    }

    async fn translate(&self, original: &Original) -> Result<(AccessConfig, Vec<String>), Error> {
        let datastores = self.datastores().await?;
        let mut dictionary = Dictionary {
            vms: self.by_bios().await?,
            datastores: datastores.into_iter().map(|d| d.name).collect(),
            warnings: original.warnings.clone(),
        };
        let mut access = AccessConfig {
            groups: Vec::new(),
            policies: Vec::new(),
            transfers: Vec::new(),
        };
        for group in &original.groups {
            let group = dictionary.group(group, &access);
            access.groups.push(group);
        }
        if !access.groups.iter().any(|g| g.id == GroupId::DEFAULT) {
            dictionary.warnings.push(
                "the original has no _DEFAULT: VMs of no vmgroup have no access, here as there"
                    .to_owned(),
            );
        }
        let odd = self.take_original_policies(&mut access).await?;
        dictionary.warnings.extend(odd);
        sound(&access)?;
        Ok((access, dictionary.warnings))
    }

    /// The VMs all hosts know, by BIOS UUID.
    async fn by_bios(&self) -> Result<ByBios, Error> {
        let mut found = ByBios::new();
        for vm in self.admin_vms().await? {
            let (id, name) = (vm.vm.id, vm.vm.name);
            let Some((ds, path)) = split_config_path(&id.config_path) else {
                continue;
            };
            let read = self.ports.datastores.read(&ds, &path, MAX_VMX);
            let text = match self.answering(&ds, async { Ok(read.await) }).await {
                Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Ok(Err(_)) | Err(_) => continue,
            };
            if let Some(bios) = bios_uuid(&text) {
                let known = found.entry(bios).or_default();
                if !known.iter().any(|(uuid, _)| *uuid == id.instance_uuid) {
                    known.push((id.instance_uuid, name));
                }
            }
        }
        Ok(found)
    }
}

/// `uuid.bios` of a VM's configuration file, however its digits are grouped.
fn bios_uuid(config: &str) -> Option<Uuid> {
    let value = config.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("uuid.bios")
            .then_some(value)
    })?;
    let digits: String = value.chars().filter(char::is_ascii_hexdigit).collect();
    Uuid::try_parse(&digits).ok()
}

/// The configuration with the original's vmgroups in it. The original says whether there is a `_DEFAULT`.
fn merged(now: &AccessConfig, original: &AccessConfig) -> Result<AccessConfig, Error> {
    let mut after = now.clone();
    after
        .groups
        .retain(|g| g.id != GroupId::DEFAULT && !original.groups.iter().any(|o| o.id == g.id));
    after.groups.extend(original.groups.iter().cloned());
    let new = |p: &&StoragePolicy| policy::find(now, &p.name).is_none();
    after
        .policies
        .extend(original.policies.iter().filter(new).cloned());
    sound(&after)?;
    Ok(after)
}

impl Dictionary {
    fn group(&mut self, group: &OriginalGroup, before: &AccessConfig) -> Group {
        let id = GroupId::new(group.id);
        let name = self.name(group, before);
        let default_datastore = match self.scope(&group.default_datastore, &name) {
            DatastoreScope::All => {
                self.warnings.push(format!(
                    "vmgroup {name}: _ALL_DS cannot be a default datastore; it becomes _VM_DS"
                ));
                DatastoreScope::VmHome
            }
            scope => scope,
        };
        let members = match id == GroupId::DEFAULT {
            true => Members::Others,
            false => Members::Vms(self.members(group, &name)),
        };
        let mut privileges: Vec<Privilege> = Vec::new();
        for row in &group.privileges {
            let privilege = self.privilege(row, &name);
            if !privileges
                .iter()
                .any(|p| p.datastore == privilege.datastore)
            {
                privileges.push(privilege);
            }
        }
        Group {
            id,
            name,
            description: group.description.clone(),
            default_datastore,
            default_size: None,
            members,
            privileges,
            removing: false,
        }
    }

    fn name(&mut self, group: &OriginalGroup, before: &AccessConfig) -> GroupName {
        let plain = GroupName::new(&group.name).ok();
        let plain = plain.filter(|n| !before.groups.iter().any(|g| g.name == *n));
        plain.unwrap_or_else(|| {
            let digits: String = group.id.simple().to_string().chars().take(8).collect();
            let name = GroupName::new(&format!("group-{digits}"))
                .expect("letters, digits and a dash make a name");
            self.warnings.push(format!(
                "vmgroup name {:?} cannot be used here; it becomes {name}, change it with: vdvs vmgroup update --name={name}",
                group.name
            ));
            name
        })
    }

    fn members(&mut self, group: &OriginalGroup, name: &GroupName) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        for vm in &group.vms {
            let found = self.vms.get(&vm.bios).map_or(&[][..], Vec::as_slice);
            let member = match found {
                [(uuid, known)] => Member {
                    uuid: *uuid,
                    name: known.clone(),
                },
                other => {
                    let shown = match vm.name.is_empty() {
                        true => format!("VM with BIOS UUID {}", vm.bios),
                        false => vm.name.clone(),
                    };
                    let why = match other.is_empty() {
                        true => "no host knows a VM with its BIOS UUID".to_owned(),
                        false => {
                            let names: Vec<&str> = other.iter().map(|(_, n)| n.as_str()).collect();
                            format!("several VMs have its BIOS UUID: {}", names.join(", "))
                        }
                    };
                    self.warnings.push(format!(
                        "vmgroup {name}: member {shown} is kept by name and has no access yet ({why} {}); import again when its host is seen, or add it with: vdvs vmgroup vm add --name={name} --vm-list=VM",
                        vm.bios
                    ));
                    Member {
                        uuid: Uuid::from_u128(vm.bios.as_u128() ^ STAND_IN),
                        name: shown,
                    }
                }
            };
            if !members.iter().any(|m| m.uuid == member.uuid) {
                members.push(member);
            }
        }
        members
    }

    fn privilege(&mut self, row: &OriginalPrivilege, name: &GroupName) -> Privilege {
        let bytes = |mb: u64| (mb > 0).then(|| mb.saturating_mul(MEGABYTE));
        let max_volume = bytes(row.max_volume_mb);
        Privilege {
            datastore: self.scope(&row.datastore, name),
            allow_create: row.allow_create,
            max_volume: max_volume.and_then(|b| Capacity::from_bytes(b.min(MAX_BYTES)).ok()),
            total_bytes: bytes(row.total_mb),
        }
    }

    /// A datastore's URL as a name.
    fn scope(&mut self, url: &str, group: &GroupName) -> DatastoreScope {
        let last = url.trim_end_matches('/').rsplit('/').next().unwrap_or("");
        match url.trim_end_matches("://").trim() {
            "" | DatastoreScope::VM_HOME => return DatastoreScope::VmHome,
            DatastoreScope::ALL => return DatastoreScope::All,
            _ => {}
        }
        if let Some(known) = self.datastores.iter().find(|d| d.as_str() == last) {
            return DatastoreScope::Named(known.clone());
        }
        match DatastoreName::new(last) {
            Ok(name) => {
                self.warnings.push(format!(
                    "vmgroup {group}: no datastore {name} is known on this host (the original's {url}); what is said about it stands under that name"
                ));
                DatastoreScope::Named(name)
            }
            Err(_) => {
                self.warnings.push(format!(
                    "vmgroup {group}: {url:?} names no datastore; _VM_DS stands in its place"
                ));
                DatastoreScope::VmHome
            }
        }
    }
}
