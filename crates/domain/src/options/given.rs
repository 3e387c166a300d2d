//! The options a caller gave: reading the map that Docker sends, its one spelling, and its comparison with a volume.

use std::collections::BTreeMap;
use std::fmt;

use super::mount;
use super::values::{parse_mode, parse_owner};
use super::{
    Access, AttachAs, CAPACITY, CreateOptions, DiskFormat, Failover, FenceAfter, KEYS, MAX_OPTIONS,
    OptionError, VOLUME_STORE, cut,
};
use crate::capacity::Capacity;
use crate::names::{DatastoreName, FsType, PolicyName, VolumeAddress};

/// The options a caller gave; what it left out is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GivenOptions {
    /// `size`, or VIC's `Capacity`
    pub size: Option<Capacity>,
    /// `fstype`
    pub fstype: Option<FsType>,
    /// `diskformat`
    pub diskformat: Option<DiskFormat>,
    /// `attach-as`
    pub attach_as: Option<AttachAs>,
    /// `access`
    pub access: Option<Access>,
    /// `failover`
    pub failover: Option<Failover>,
    /// `fence-after`
    pub fence_after: Option<FenceAfter>,
    /// `clone-from`
    pub clone_from: Option<VolumeAddress>,
    /// `vsan-policy-name`
    pub policy: Option<PolicyName>,
    /// `mount-options`, in the order given
    pub mount_options: Option<Vec<String>>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
    /// `mode`
    pub mode: Option<u32>,
    /// VIC's `VolumeStore`: the datastore a new volume is placed on. Not a property of the volume: its name stays
    /// short.
    pub datastore: Option<DatastoreName>,
}

/// The spelling of [`KEYS`] that `key` stands for. VIC read its two names in any letter case; ours are exact.
fn known(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|(known, _)| *known)
        .find(|known| match *known {
            CAPACITY | VOLUME_STORE => known.eq_ignore_ascii_case(key),
            _ => *known == key,
        })
}

/// The least an unadorned `mkfs` of today takes, in MiB (measured: xfsprogs 6.1, btrfs-progs 6.2).
const LEAST: [(&str, u64); 2] = [("xfs", 300), ("btrfs", 109)];

impl GivenOptions {
    /// Reads the map that Docker sends. Order of checks: unknown keys, then as in [`KEYS`]; the first failure wins.
    ///
    /// # Errors
    /// [`OptionError`] with the original's text.
    pub fn parse(map: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        if map.len() > MAX_OPTIONS {
            return Err(OptionError::TooMany(map.len()));
        }
        let unknown: Vec<String> = map
            .keys()
            .filter(|k| known(k).is_none())
            .map(|k| cut(k))
            .collect();
        if !unknown.is_empty() {
            return Err(OptionError::Unknown { unknown });
        }
        let get = |key: &str| map.get(key).map(String::as_str);
        let given = Self {
            size: sizes(map)?,
            policy: get("vsan-policy-name").map(PolicyName::new).transpose()?,
            diskformat: get("diskformat")
                .map(|t| DiskFormat::parse(t).ok_or_else(|| OptionError::DiskFormat(cut(t))))
                .transpose()?,
            attach_as: get("attach-as")
                .map(|t| AttachAs::parse(t).ok_or_else(|| OptionError::AttachAs(cut(t))))
                .transpose()?,
            access: get("access")
                .map(|t| Access::parse(t).ok_or_else(|| OptionError::Access(cut(t))))
                .transpose()?,
            fstype: get("fstype").map(FsType::new).transpose()?,
            clone_from: get("clone-from").map(source).transpose()?,
            failover: get("failover")
                .map(|t| Failover::parse(t).ok_or_else(|| OptionError::Failover(cut(t))))
                .transpose()?,
            fence_after: get("fence-after")
                .map(|t| FenceAfter::parse(t).ok_or_else(|| OptionError::FenceAfter(cut(t))))
                .transpose()?,
            mount_options: get("mount-options").map(mount::split).transpose()?,
            uid: owner("uid", get("uid"))?,
            gid: owner("gid", get("gid"))?,
            mode: get("mode")
                .map(|t| parse_mode(t).ok_or_else(|| OptionError::Mode(cut(t))))
                .transpose()?,
            datastore: store(map)?,
        };
        given.agrees_with_itself()?;
        Ok(given)
    }

    fn agrees_with_itself(&self) -> Result<(), OptionError> {
        if self.fence_after.is_some() && self.failover != Some(Failover::Fence) {
            return Err(OptionError::FenceAfterAlone);
        }
        if self.clone_from.is_some() {
            let set = [("uid", self.uid), ("gid", self.gid), ("mode", self.mode)];
            if let Some((what, _)) = set.into_iter().find(|(_, value)| value.is_some()) {
                let why = "its folder is a copy of the source's; change it in a container";
                return Err(OptionError::NotForAClone {
                    what,
                    why: why.to_owned(),
                });
            }
        } else if let Some(options) = &self.mount_options {
            let fstype = self.fstype.clone().unwrap_or_else(FsType::ext4);
            mount::check(&fstype, options)?;
        }
        self.is_large_enough()
    }

    /// A volume too small for its file system would fail at its first mount, perhaps days later and elsewhere.
    fn is_large_enough(&self) -> Result<(), OptionError> {
        let Some(fstype) = self.fstype.as_ref().filter(|_| self.clone_from.is_none()) else {
            return Ok(());
        };
        let least = LEAST.iter().find(|(name, _)| *name == fstype.as_str());
        match least {
            Some((_, mib)) if self.capacity().bytes() < mib << 20 => Err(OptionError::TooSmall {
                fstype: fstype.clone(),
                mib: *mib,
            }),
            _ => Ok(()),
        }
    }

    /// The capacity to make: what was given, or the default.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.size.unwrap_or(Capacity::DEFAULT)
    }

    /// What was given, as `key=value` in an order and spelling of its own: part of a request's fingerprint, so it
    /// must not change from version to version. New keys go to the end.
    #[must_use]
    pub fn canonical(&self) -> String {
        fn pair<T: ToString>(key: &str, value: Option<&T>) -> Option<String> {
            value.map(|v| format!("{key}={}", unbroken(&v.to_string())))
        }
        let pairs = [
            pair("size", self.size.map(Capacity::bytes).as_ref()),
            pair("fstype", self.fstype.as_ref()),
            pair("diskformat", self.diskformat.as_ref()),
            pair("attach-as", self.attach_as.as_ref()),
            pair("access", self.access.as_ref()),
            pair("failover", self.failover.as_ref()),
            pair("fence-after", self.fence_after.as_ref()),
            pair("clone-from", self.clone_from.as_ref()),
            pair("vsan-policy-name", self.policy.as_ref()),
            pair(
                "mount-options",
                self.mount_options.as_ref().map(|o| o.join(",")).as_ref(),
            ),
            pair("uid", self.uid.as_ref()),
            pair("gid", self.gid.as_ref()),
            pair("mode", self.mode.map(|m| format!("{m:04o}")).as_ref()),
            pair(VOLUME_STORE, self.datastore.as_ref()),
        ];
        pairs.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Fills in the defaults. What a clone takes from its source is not known here.
    #[must_use]
    pub fn resolve(&self) -> CreateOptions {
        CreateOptions {
            fstype: self.fstype.clone().unwrap_or_else(FsType::ext4),
            diskformat: self.diskformat.unwrap_or_default(),
            attach_as: self.attach_as.unwrap_or_default(),
            access: self.access.unwrap_or_default(),
            failover: self.failover.unwrap_or_default(),
            fence_after: self.fence_after.unwrap_or_default(),
            clone_from: self.clone_from.as_ref().map(ToString::to_string),
            policy: self.policy.clone(),
            mount_options: self.mount_options.clone().unwrap_or_default(),
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }

    /// The options given here that an existing volume does not have, as `key: asked X, has Y`. Empty: creating it
    /// again changes nothing and succeeds.
    #[must_use]
    pub fn differences(&self, capacity: Capacity, has: &CreateOptions) -> Vec<String> {
        fn differ<T: PartialEq + fmt::Display>(
            key: &str,
            asked: Option<&T>,
            has: &T,
        ) -> Option<String> {
            asked
                .filter(|a| *a != has)
                .map(|a| format!("{key}: asked {a}, has {has}"))
        }
        fn optional<T: PartialEq + fmt::Display>(
            key: &str,
            asked: Option<&T>,
            has: Option<&T>,
        ) -> Option<String> {
            let asked = asked.filter(|a| Some(*a) != has)?;
            let has = has.map_or_else(|| "none".to_owned(), ToString::to_string);
            Some(format!("{key}: asked {asked}, has {has}"))
        }
        let octal = |mode: u32| format!("{mode:04o}");
        [
            differ("size", self.size.as_ref(), &capacity),
            differ("fstype", self.fstype.as_ref(), &has.fstype),
            differ("diskformat", self.diskformat.as_ref(), &has.diskformat),
            differ("attach-as", self.attach_as.as_ref(), &has.attach_as),
            differ("access", self.access.as_ref(), &has.access),
            differ("failover", self.failover.as_ref(), &has.failover),
            differ("fence-after", self.fence_after.as_ref(), &has.fence_after),
            self.other_source(has),
            optional(
                "vsan-policy-name",
                self.policy.as_ref(),
                has.policy.as_ref(),
            ),
            differ(
                "mount-options",
                self.mount_options.as_ref().map(|o| o.join(",")).as_ref(),
                &has.mount_options.join(","),
            ),
            optional("uid", self.uid.as_ref(), has.uid.as_ref()),
            optional("gid", self.gid.as_ref(), has.gid.as_ref()),
            optional(
                "mode",
                self.mode.map(octal).as_ref(),
                has.mode.map(octal).as_ref(),
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// A source asked for by its short name is the one recorded if the names agree.
    fn other_source(&self, has: &CreateOptions) -> Option<String> {
        let asked = self.clone_from.as_ref()?;
        let recorded = has.clone_from.as_deref();
        let same = recorded
            .and_then(|text| VolumeAddress::parse(text).ok())
            .is_some_and(|source| {
                let stores = (asked.datastore.as_ref(), source.datastore.as_ref());
                asked.name == source.name
                    && match stores {
                        (Some(asked), Some(has)) => has.matches(asked),
                        (Some(_), None) => false,
                        (None, _) => true,
                    }
            });
        let has = recorded.unwrap_or("none");
        (!same).then(|| format!("clone-from: asked {asked}, has {has}"))
    }
}

/// `size` and `Capacity` mean one thing, so they must say one thing.
fn sizes(map: &BTreeMap<String, String>) -> Result<Option<Capacity>, OptionError> {
    let mut size = map.get("size").map(|t| Capacity::parse(t)).transpose()?;
    for (key, text) in map.iter().filter(|(key, _)| known(key) == Some(CAPACITY)) {
        let asked = Capacity::parse_mebibytes(text)?;
        match size {
            Some(other) if other != asked => {
                let (key, texts) = (cut(key), [other.to_string(), asked.to_string()]);
                return Err(OptionError::TwoSizes { key, texts });
            }
            _ => size = Some(asked),
        }
    }
    Ok(size)
}

fn store(map: &BTreeMap<String, String>) -> Result<Option<DatastoreName>, OptionError> {
    let mut store: Option<DatastoreName> = None;
    for (_, text) in map
        .iter()
        .filter(|(key, _)| known(key) == Some(VOLUME_STORE))
    {
        let asked = DatastoreName::new(text)?;
        if let Some(other) = store.as_ref().filter(|other| !other.matches(&asked)) {
            return Err(OptionError::TwoStores {
                store: asked,
                other: other.clone(),
            });
        }
        store = Some(asked);
    }
    Ok(store)
}

fn source(text: &str) -> Result<VolumeAddress, OptionError> {
    VolumeAddress::parse(text).map_err(|why| OptionError::CloneFrom {
        asked: cut(text),
        why,
    })
}

fn owner(key: &'static str, text: Option<&str>) -> Result<Option<u32>, OptionError> {
    text.map(|t| parse_owner(t).ok_or_else(|| OptionError::Owner { key, text: cut(t) }))
        .transpose()
}

/// A value without blanks, so that a blank ends it: names may hold some.
fn unbroken(value: &str) -> String {
    value.replace('%', "%25").replace(' ', "%20")
}
