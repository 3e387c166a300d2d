//! What administrators write, read strictly: an unreadable limit is refused, never taken for *unlimited*.

use uuid::Uuid;

use super::fault::{Fault, NAME_PATTERN};
use super::model::{DatastoreScope, Member};
use crate::capacity::Capacity;
use crate::names::{DatastoreName, GroupName};

/// Longest description in characters, as in the original's API.
pub const MAX_DESCRIPTION: usize = 256;
/// Longest name of a vmgroup in characters, as in the original's API.
pub const MAX_GROUP_NAME: usize = 64;
/// Most VMs named in one change.
pub const MAX_VMS_ASKED: usize = 1000;
/// So much of a text that is refused is repeated.
const SHOWN: usize = 80;
/// What stands beside vmgroups' folders, or means something else where a vmgroup's name could stand.
const RESERVED: [&str; 7] = [
    "policies",
    "vmdkops_config.db",
    "_ORPHAN",
    "_DEFAULT_URL",
    DatastoreScope::VM_HOME,
    DatastoreScope::ALL,
    "_DEFAULT",
];

/// The world of a change, as far as the configuration does not know it.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The datastores there are.
    pub datastores: Vec<DatastoreName>,
    /// What is known of the VMs that the change, or the vmgroup, names.
    pub vms: Vec<KnownVm>,
}

/// A VM that some host knows, and what of its volumes matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVm {
    /// The VM.
    pub vm: Member,
    /// Full names of the volumes it has attached.
    pub mounted: Vec<String>,
    /// Full names of the volumes of its present vmgroup that it made, or has attached.
    pub owned: Vec<String>,
}

/// The beginning of a text that is refused.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(SHOWN)
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

fn fits_the_pattern(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && chars.all(inside)
}

/// A name that a vmgroup may be given.
///
/// # Errors
/// [`Fault::NameEmpty`], [`Fault::NameTooLong`], [`Fault::NameInvalid`].
pub(super) fn new_group_name(name: &str) -> Result<GroupName, Fault> {
    let invalid = |why| Fault::NameInvalid {
        name: shown(name),
        allowed: NAME_PATTERN,
        why,
    };
    if name.is_empty() {
        return Err(Fault::NameEmpty);
    }
    if name.chars().count() > MAX_GROUP_NAME {
        return Err(Fault::NameTooLong { name: shown(name) });
    }
    if !fits_the_pattern(name) {
        return Err(invalid("; choose another name"));
    }
    if RESERVED.contains(&name) {
        return Err(invalid(
            ", and that name has a meaning of its own; choose another name",
        ));
    }
    if Uuid::try_parse(name).is_ok() {
        return Err(invalid(
            ", and not what looks like a UUID: vmgroups have one beside their name; choose another name",
        ));
    }
    GroupName::new(name).map_err(|_| invalid("; choose another name"))
}

/// The description of a vmgroup; empty: none.
///
/// # Errors
/// [`Fault::DescriptionTooLong`]; [`Fault::InvalidArgument`] for what a terminal would obey.
pub(super) fn description(text: &str) -> Result<String, Fault> {
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(Fault::DescriptionTooLong {
            description: shown(text),
        });
    }
    match text.chars().any(char::is_control) {
        true => Err(Fault::InvalidArgument {
            what: "the description contains control characters".to_owned(),
            advice: "write it in one line",
        }),
        false => Ok(text.to_owned()),
    }
}

impl Surroundings {
    /// A datastore or placeholder. Letter case does not matter where it leaves no doubt.
    ///
    /// # Errors
    /// [`Fault::NoSuchDatastore`].
    pub fn scope(&self, text: &str) -> Result<DatastoreScope, Fault> {
        match text {
            DatastoreScope::ALL => return Ok(DatastoreScope::All),
            DatastoreScope::VM_HOME => return Ok(DatastoreScope::VmHome),
            _ => {}
        }
        let unknown = || Fault::NoSuchDatastore { name: shown(text) };
        let asked = DatastoreName::new(text).map_err(|_| unknown())?;
        let alike: Vec<_> = self
            .datastores
            .iter()
            .filter(|d| d.matches(&asked))
            .collect();
        match alike.as_slice() {
            _ if self.datastores.contains(&asked) => Ok(DatastoreScope::Named(asked)),
            [one] => Ok(DatastoreScope::Named((*one).clone())),
            _ => Err(unknown()),
        }
    }

    /// Where new volumes of a vmgroup go.
    ///
    /// # Errors
    /// [`Fault::AllAsDefault`], [`Fault::DefaultDatastoreInvalid`], [`Fault::NoSuchDatastore`].
    pub fn default_datastore(&self, text: &str) -> Result<DatastoreScope, Fault> {
        match text {
            DatastoreScope::ALL => Err(Fault::AllAsDefault),
            _ if DatastoreName::new(text).is_err() => {
                Err(Fault::DefaultDatastoreInvalid { name: shown(text) })
            }
            _ => self.scope(text),
        }
    }

    /// What is known of a VM.
    #[must_use]
    pub fn known(&self, vm: Uuid) -> Option<&KnownVm> {
        self.vms.iter().find(|k| k.vm.uuid == vm)
    }
}

/// What every change of members begins with: VMs are named, and none twice.
///
/// # Errors
/// `none` for the empty list, [`Fault::DuplicateVms`], [`Fault::InvalidArgument`] for more than [`MAX_VMS_ASKED`].
pub(super) fn vm_list(asked: &[String], none: Fault) -> Result<(), Fault> {
    if asked.iter().all(|vm| vm.trim().is_empty()) {
        return Err(none);
    }
    if asked.len() > MAX_VMS_ASKED {
        return Err(Fault::InvalidArgument {
            what: format!("{} VMs are too many at once", asked.len()),
            advice: "name at most 1000",
        });
    }
    let twice = |(at, vm): (usize, &String)| asked.iter().take(at).any(|v| v == vm);
    match asked.iter().enumerate().any(twice) {
        true => Err(Fault::DuplicateVms {
            vms: asked.iter().map(|vm| shown(vm)).collect(),
        }),
        false => Ok(()),
    }
}

/// The VMs that the texts mean, by name or instance UUID, among `vms`. Two texts for one VM are duplicates too.
///
/// # Errors
/// [`Fault::NoSuchVm`] naming all that are not found, [`Fault::VmsAlike`], [`Fault::DuplicateVms`].
pub(super) fn resolve<'a>(
    asked: &[String],
    vms: impl Iterator<Item = &'a Member> + Clone,
) -> Result<Vec<Member>, Fault> {
    let (mut found, mut missing): (Vec<Member>, Vec<String>) = (Vec::new(), Vec::new());
    for text in asked {
        match one(text, vms.clone())? {
            Some(vm) if found.iter().any(|f| f.uuid == vm.uuid) => {
                return Err(Fault::DuplicateVms {
                    vms: asked.iter().map(|vm| shown(vm)).collect(),
                });
            }
            Some(vm) => found.push(vm),
            None => missing.push(shown(text)),
        }
    }
    match missing.is_empty() {
        true => Ok(found),
        false => Err(Fault::NoSuchVm { names: missing }),
    }
}

fn one<'a>(
    text: &str,
    vms: impl Iterator<Item = &'a Member> + Clone,
) -> Result<Option<Member>, Fault> {
    let mut named: Vec<&Member> = vms.clone().filter(|vm| vm.name == text).collect();
    named.dedup_by_key(|vm| vm.uuid);
    match named.as_slice() {
        [one] => return Ok(Some((*one).clone())),
        [] => {}
        several => {
            return Err(Fault::VmsAlike {
                name: shown(text),
                found: several.iter().map(|vm| vm.uuid).collect(),
            });
        }
    }
    let uuid = Uuid::try_parse(text).ok();
    Ok(uuid.and_then(|uuid| vms.clone().find(|vm| vm.uuid == uuid).cloned()))
}

/// `True` or `False`, in any letter case.
///
/// # Errors
/// [`Fault::AllowCreateInvalid`].
pub(super) fn allow_create(text: &str) -> Result<bool, Fault> {
    match text {
        t if t.eq_ignore_ascii_case("true") => Ok(true),
        t if t.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Fault::AllowCreateInvalid { value: shown(text) }),
    }
}

/// A limit in bytes: `500MB`, `1gb`, `2TB`, also `MiB`, `GiB`, `TiB`; `0`, `unlimited` and `Unset` mean none.
///
/// # Errors
/// [`Fault::SizeInvalid`] naming `what`.
pub fn limit(what: &'static str, text: &str) -> Result<Option<u64>, Fault> {
    let invalid = || Fault::SizeInvalid {
        what,
        given: shown(text),
    };
    if ["0", "unlimited", "unset"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Ok(None);
    }
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(invalid)?;
    let (digits, unit) = text.split_at_checked(split).ok_or_else(invalid)?;
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        "tb" | "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let bytes = number.checked_mul(factor).ok_or_else(invalid)?;
    Ok((bytes > 0).then_some(bytes))
}

/// A limit for one disk.
///
/// # Errors
/// [`Fault::SizeInvalid`], also for more than a disk can have.
pub(super) fn disk_limit(what: &'static str, text: &str) -> Result<Option<Capacity>, Fault> {
    let bytes = limit(what, text)?;
    let capacity = bytes.map(Capacity::from_bytes).transpose();
    capacity.map_err(|_| Fault::SizeInvalid {
        what,
        given: shown(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_strictly_or_refused() {
        for none in ["0", "unlimited", "Unset", "UNLIMITED", "0MB", "0gb"] {
            assert_eq!(limit("x", none), Ok(None), "{none}");
        }
        assert_eq!(limit("x", "500MB"), Ok(Some(500 << 20)));
        assert_eq!(limit("x", "1gb"), Ok(Some(1 << 30)));
        assert_eq!(limit("x", "100TB"), Ok(Some(100 << 40)));
        for bad in [
            "",
            "5",
            "abc",
            "1.5GB",
            "-1GB",
            "1 GB",
            "1GBx",
            "100mbb",
            "99999999999999999999TB",
            "20000000TB",
            "MB",
            "ünlimited",
        ] {
            assert!(
                matches!(limit("x", bad), Err(Fault::SizeInvalid { .. })),
                "{bad}"
            );
        }
        assert!(disk_limit("x", "63TB").is_err());
        assert_eq!(disk_limit("x", "62TB").unwrap().unwrap().bytes(), 62 << 40);
    }

    #[test]
    fn allow_create_is_true_or_false_in_any_letter_case_and_nothing_else() {
        for (text, value) in [
            ("True", true),
            ("true", true),
            ("TRUE", true),
            ("fAlse", false),
        ] {
            assert_eq!(allow_create(text), Ok(value));
        }
        for bad in ["", "1", "yes", "true ", "truefalse"] {
            let fault = allow_create(bad).unwrap_err();
            assert_eq!(fault.code(), 204);
        }
    }

    #[test]
    fn a_new_name_means_nothing_else_and_fits_everywhere() {
        for good in ["dev", "_x", "a.b-c_d", "0", &"n".repeat(64)] {
            assert!(new_group_name(good).is_ok(), "{good}");
        }
        for (bad, code) in [
            ("", 401),
            ("../../x", 8),
            (".vdvs", 8),
            ("-x", 8),
            ("a b", 8),
            ("a/b", 8),
            ("ä", 8),
            ("policies", 8),
            ("vmdkops_config.db", 8),
            ("_VM_DS", 8),
            ("_ALL_DS", 8),
            ("_ORPHAN", 8),
            ("_DEFAULT", 8),
            ("11111111-1111-1111-1111-111111111111", 8),
            ("0123456789abcdef0123456789ABCDEF", 8),
            (&"n".repeat(65), 402),
        ] {
            assert_eq!(new_group_name(bad).unwrap_err().code(), code, "{bad}");
        }
    }

    #[test]
    fn a_vm_is_found_by_name_or_uuid_and_two_of_one_name_are_not_guessed() {
        let vm = |n: u128, name: &str| Member {
            uuid: Uuid::from_u128(n),
            name: name.to_owned(),
        };
        let vms = [vm(1, "web"), vm(2, "db"), vm(3, "db")];
        let ask = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            resolve(&texts, vms.iter())
        };
        let two = Uuid::from_u128(2).to_string();
        assert_eq!(
            ask(&["web", &two]).unwrap(),
            vec![vm(1, "web"), vm(2, "db")]
        );
        assert!(matches!(ask(&["db"]), Err(Fault::VmsAlike { found, .. }) if found.len() == 2));
        let one = Uuid::from_u128(1).to_string();
        assert_eq!(ask(&["web", &one]).unwrap_err().code(), 107);
        assert!(
            matches!(ask(&["x", "web", "y"]), Err(Fault::NoSuchVm { names }) if names == ["x", "y"])
        );
    }
}
