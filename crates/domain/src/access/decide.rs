//! May this VM do this, on this datastore?

use std::fmt;

use uuid::Uuid;

use super::model::{AccessConfig, DatastoreScope, Group, Privilege};
use crate::capacity::Capacity;
use crate::names::{DatastoreName, GroupName};

/// The VM that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its instance UUID, as the transport told it.
    pub instance_uuid: Uuid,
    /// Its name, for messages.
    pub name: &'a str,
    /// The datastore its configuration file lies on.
    pub home: Option<&'a DatastoreName>,
}

/// How a denial names the datastore. A VM is told no name that it did not say: it may not use that datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// By its name, as the VM did.
    Named(DatastoreName),
    /// The VM said none.
    Default,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "datastore {name}"),
            Self::Default => f.write_str("the default datastore"),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make a volume of this size.
    Create(Capacity),
    /// Remove a volume.
    Delete,
    /// See, attach, format, detach a volume.
    Use,
}

/// Why a request is denied. The texts are the original's, with the advice behind them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The VM is in no group and there is no `_DEFAULT`.
    #[error(
        "VM {vm} does not belong to any vmgroup; an administrator adds it with: vdvs vmgroup vm add"
    )]
    NoGroup {
        /// The VM's name.
        vm: String,
    },
    /// The group has no privilege on the datastore.
    #[error(
        "No access privilege exists for vmgroup {group} on {datastore}; an administrator grants it with: vdvs vmgroup access add"
    )]
    NoPrivilege {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: Spot,
    },
    /// The privilege does not allow create.
    #[error(
        "No create privilege for vmgroup {group} on {datastore}; an administrator grants it with: vdvs vmgroup access set --allow-create=True"
    )]
    NoCreate {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: Spot,
    },
    /// The privilege does not allow delete.
    #[error(
        "No delete privilege for vmgroup {group} on {datastore}; an administrator grants it with: vdvs vmgroup access set --allow-create=True"
    )]
    NoDelete {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: Spot,
    },
    /// The volume is larger than the group may make.
    #[error(
        "Volume size exceeds the max volume size limit: asked {asked}, vmgroup {group} may make volumes of at most {limit} on {datastore}"
    )]
    TooLarge {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: Spot,
        /// Asked.
        asked: Capacity,
        /// Allowed.
        limit: Capacity,
    },
    /// The group is being removed with its volumes.
    #[error(
        "vmgroup {group} is being removed with its volumes; an administrator keeps what is left of it with: vdvs vmgroup update --name={group}"
    )]
    BeingRemoved {
        /// The group.
        group: GroupName,
    },
    /// The group's default datastore means the VM's home, which is not known.
    #[error(
        "Default datastore is not set for vmgroup {group}: the home datastore of VM {vm} is not known; name a datastore, as in volume@datastore"
    )]
    NoDefaultDatastore {
        /// The group.
        group: GroupName,
        /// The VM.
        vm: String,
    },
}

impl Denied {
    /// The denial with a datastore that the VM may not use named as the VM did; none: it named none.
    #[must_use]
    pub fn as_said(mut self, said: Option<&DatastoreName>) -> Self {
        if let Self::NoPrivilege { datastore, .. } = &mut self {
            *datastore = said.cloned().map_or(Spot::Default, Spot::Named);
        }
        self
    }
}

/// The group `caller` belongs to.
///
/// # Errors
/// [`Denied::NoGroup`].
pub fn group_of<'a>(config: &'a AccessConfig, caller: &Caller<'_>) -> Result<&'a Group, Denied> {
    config
        .group_of_vm(caller.instance_uuid)
        .ok_or_else(|| Denied::NoGroup {
            vm: caller.name.to_owned(),
        })
}

/// Where a new volume of this caller goes when it names no datastore.
///
/// # Errors
/// [`Denied::NoDefaultDatastore`].
pub fn default_datastore(group: &Group, caller: &Caller<'_>) -> Result<DatastoreName, Denied> {
    match (&group.default_datastore, caller.home) {
        (DatastoreScope::Named(name), _) => Ok(name.clone()),
        (_, Some(home)) => Ok(home.clone()),
        (_, None) => Err(Denied::NoDefaultDatastore {
            group: group.name.clone(),
            vm: caller.name.to_owned(),
        }),
    }
}

/// The privilege that speaks of `datastore`: one that names it, else `_VM_DS` on the caller's home, else `_ALL_DS`.
#[must_use]
pub fn privilege_on<'a>(
    group: &'a Group,
    caller: &Caller<'_>,
    datastore: &DatastoreName,
) -> Option<&'a Privilege> {
    let find = |wanted: fn(&DatastoreScope, &DatastoreName) -> bool| {
        group
            .privileges
            .iter()
            .find(|p| wanted(&p.datastore, datastore))
    };
    find(|scope, ds| matches!(scope, DatastoreScope::Named(name) if name == ds))
        .or_else(|| {
            (caller.home == Some(datastore))
                .then(|| find(|scope, _| *scope == DatastoreScope::VmHome))
                .flatten()
        })
        .or_else(|| find(|scope, _| *scope == DatastoreScope::All))
}

/// The decision. Quota over all volumes is not decided here: it needs the ledger.
///
/// # Errors
/// [`Denied`] naming the rule.
pub fn decide<'a>(
    config: &'a AccessConfig,
    caller: &Caller<'_>,
    verb: Verb,
    datastore: &DatastoreName,
) -> Result<(&'a Group, &'a Privilege), Denied> {
    let group = group_of(config, caller)?;
    if group.removing {
        let group = group.name.clone();
        return Err(Denied::BeingRemoved { group });
    }
    let at = || (group.name.clone(), Spot::Named(datastore.clone()));
    let Some(privilege) = privilege_on(group, caller, datastore) else {
        let (group, datastore) = at();
        return Err(Denied::NoPrivilege { group, datastore });
    };
    match verb {
        Verb::Use => {}
        Verb::Delete if !privilege.allow_create => {
            let (group, datastore) = at();
            return Err(Denied::NoDelete { group, datastore });
        }
        Verb::Create(_) if !privilege.allow_create => {
            let (group, datastore) = at();
            return Err(Denied::NoCreate { group, datastore });
        }
        Verb::Create(asked) => {
            if let Some(limit) = privilege.max_volume.filter(|limit| asked > *limit) {
                let (group, datastore) = at();
                return Err(Denied::TooLarge {
                    group,
                    datastore,
                    asked,
                    limit,
                });
            }
        }
        Verb::Delete => {}
    }
    Ok((group, privilege))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ds(name: &str) -> DatastoreName {
        DatastoreName::new(name).unwrap()
    }

    #[test]
    fn a_denial_names_the_datastore_as_the_vm_did() {
        let named = Spot::Named(ds("ds1"));
        assert_eq!(named.to_string(), "datastore ds1");
        assert_eq!(Spot::Default.to_string(), "the default datastore");
    }

    fn caller(home: &DatastoreName) -> Caller<'_> {
        Caller {
            instance_uuid: Uuid::from_u128(1),
            name: "vm1",
            home: Some(home),
        }
    }

    fn group(privileges: Vec<Privilege>) -> AccessConfig {
        let mut config = AccessConfig::open_to_all();
        config.groups[0].privileges = privileges;
        config
    }

    fn privilege(datastore: DatastoreScope, allow_create: bool) -> Privilege {
        Privilege {
            datastore,
            allow_create,
            max_volume: None,
            total_bytes: None,
        }
    }

    #[test]
    fn a_fresh_datastore_lets_everybody_do_everything() {
        let (config, home) = (AccessConfig::open_to_all(), ds("home"));
        for verb in [Verb::Create(Capacity::DEFAULT), Verb::Delete, Verb::Use] {
            assert!(decide(&config, &caller(&home), verb, &ds("any")).is_ok());
        }
        let group = group_of(&config, &caller(&home)).unwrap();
        assert_eq!(default_datastore(group, &caller(&home)).unwrap(), home);
    }

    #[test]
    fn removing_the_default_group_locks_down() {
        let home = ds("home");
        let err = group_of(
            &AccessConfig {
                groups: vec![],
                ..AccessConfig::open_to_all()
            },
            &caller(&home),
        )
        .unwrap_err();
        assert!(
            err.to_string()
                .starts_with("VM vm1 does not belong to any vmgroup")
        );
    }

    #[test]
    fn a_privilege_that_names_the_datastore_wins_over_the_placeholders() {
        let home = ds("home");
        let config = group(vec![
            privilege(DatastoreScope::All, true),
            privilege(DatastoreScope::VmHome, true),
            privilege(DatastoreScope::Named(home.clone()), false),
        ]);
        let create = Verb::Create(Capacity::DEFAULT);
        let err = decide(&config, &caller(&home), create, &home).unwrap_err();
        assert!(err.to_string().starts_with("No create privilege"));
        assert!(decide(&config, &caller(&home), create, &ds("other")).is_ok());
        let err = decide(&config, &caller(&home), Verb::Delete, &home).unwrap_err();
        assert!(err.to_string().starts_with("No delete privilege"));
        assert!(decide(&config, &caller(&home), Verb::Use, &home).is_ok());
    }

    #[test]
    fn vm_home_speaks_only_of_the_callers_home() {
        let home = ds("home");
        let config = group(vec![privilege(DatastoreScope::VmHome, true)]);
        assert!(decide(&config, &caller(&home), Verb::Use, &home).is_ok());
        let err = decide(&config, &caller(&home), Verb::Use, &ds("other")).unwrap_err();
        assert!(err.to_string().starts_with("No access privilege exists"));
    }

    #[test]
    fn the_largest_volume_is_exact_at_the_boundary() {
        let home = ds("home");
        let mut limited = privilege(DatastoreScope::All, true);
        limited.max_volume = Some(Capacity::parse("10mb").unwrap());
        let config = group(vec![limited]);
        let ask = |size: &str| {
            decide(
                &config,
                &caller(&home),
                Verb::Create(Capacity::parse(size).unwrap()),
                &home,
            )
            .map(|_| ())
        };
        assert!(ask("10mb").is_ok());
        assert!(
            ask("11mb")
                .unwrap_err()
                .to_string()
                .starts_with("Volume size exceeds the max")
        );
    }
}
