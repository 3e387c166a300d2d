//! How an administrator names a volume: `[group/]name[@datastore]`, its id, or the beginning of its id.
//!
//! A volume's name may contain whatever the grammar of names allows but never `/`, so the first `/` ends the vmgroup.
//! A volume whose vmgroup exists no more stands under `N/A`, as in the listing: `N/A/name`. A name wins over the
//! beginning of an id; what fits several volumes names none of them, and the candidates are listed.

use std::fmt;

use uuid::Uuid;

use crate::ids::VolumeId;
use crate::names::{DatastoreName, GroupName, MAX_NAME_BYTES, NameError, VolumeAddress};

/// Fewer digits of an id would fit too many volumes by chance.
pub const MIN_ID_DIGITS: usize = 4;
/// What stands for the vmgroup of a volume that has none any more; as in the original's listing.
pub const NO_GROUP: &str = "N/A";
/// Longest address: vmgroup, name and datastore, with what divides them.
const MAX_BYTES: usize = 3 * MAX_NAME_BYTES + 2;

/// The vmgroup in an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupPart {
    /// This one.
    Named(GroupName),
    /// None that exists.
    Gone,
}

/// What an administrator wrote for a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAddress {
    text: String,
    /// The vmgroup before the `/`.
    pub group: Option<GroupPart>,
    /// It, read as a name; none when it can only be an id.
    pub name: Option<VolumeAddress>,
    /// It, read as an id or the beginning of one: lower-case digits without dashes.
    digits: Option<String>,
}

impl AdminAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`NameError`] of the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_BYTES {
            return Err(NameError::TooLong {
                what: "Volume",
                chars: text.chars().count(),
                bytes: text.len(),
            });
        }
        let (group, rest) = split_group(text)?;
        let digits = group.is_none().then(|| id_digits(rest)).flatten();
        let name = match VolumeAddress::parse(rest) {
            Ok(name) => Some(name),
            Err(_) if digits.is_some() => None,
            Err(why) => return Err(why),
        };
        Ok(Self {
            text: text.to_owned(),
            group,
            name,
            digits,
        })
    }

    /// The datastore it names.
    #[must_use]
    pub fn datastore(&self) -> Option<&DatastoreName> {
        self.name.as_ref().and_then(|n| n.datastore.as_ref())
    }

    /// The id, when all of it was given.
    #[must_use]
    pub fn id(&self) -> Option<VolumeId> {
        let digits = self.digits.as_ref().filter(|d| d.len() == 32)?;
        Uuid::try_parse(digits).ok().map(VolumeId::new)
    }

    /// Whether it may mean the volume with this id.
    #[must_use]
    pub fn fits(&self, id: VolumeId) -> bool {
        let begins = |digits: &String| id.uuid().simple().to_string().starts_with(digits);
        self.digits.as_ref().is_some_and(begins)
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_group(text: &str) -> Result<(Option<GroupPart>, &str), NameError> {
    if let Some(rest) = text
        .strip_prefix(NO_GROUP)
        .and_then(|r| r.strip_prefix('/'))
    {
        return Ok((Some(GroupPart::Gone), rest));
    }
    match text.split_once('/') {
        Some((group, rest)) => Ok((Some(GroupPart::Named(GroupName::new(group)?)), rest)),
        None => Ok((None, text)),
    }
}

/// The digits of an id or of its beginning; the dashes must stand where they belong.
fn id_digits(text: &str) -> Option<String> {
    let is_form = |at: usize, c: char| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    let plain = text.len() <= 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    let hyphenated = text.len() <= 36 && text.chars().enumerate().all(|(at, c)| is_form(at, c));
    let digits = text.replace('-', "").to_ascii_lowercase();
    ((plain || hyphenated) && digits.len() >= MIN_ID_DIGITS).then_some(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> AdminAddress {
        AdminAddress::parse(text).unwrap()
    }

    #[test]
    fn an_address_names_vmgroup_volume_and_datastore() {
        let full = parse("dev/my db@ds-1");
        let group = GroupName::new("dev").unwrap();
        assert_eq!(full.group, Some(GroupPart::Named(group)));
        let name = full.name.as_ref().unwrap();
        assert_eq!((name.name.as_str(), full.id()), ("my db", None));
        assert_eq!(full.datastore().unwrap().as_str(), "ds-1");
        let odd = parse("a@b@ds").name.unwrap();
        assert_eq!(
            (odd.name.as_str(), odd.datastore.unwrap().as_str()),
            ("a@b", "ds")
        );
        assert_eq!(parse("db").group, None);
        let gone = parse("N/A/db@ds");
        assert_eq!(
            (gone.group, gone.name.unwrap().name.as_str()),
            (Some(GroupPart::Gone), "db")
        );
    }

    #[test]
    fn four_digits_of_an_id_may_name_a_volume() {
        let id = VolumeId::new(Uuid::from_u128(0x0191_beef_7abc_7def_8123_4567_89ab_cdef));
        for fits in ["0191", "0191BEEF", "0191beef-7abc", "0191beef7abc"] {
            assert!(parse(fits).fits(id), "{fits}");
            assert_eq!(parse(fits).id(), None, "{fits}");
        }
        for whole in [id.to_string(), id.uuid().simple().to_string()] {
            assert_eq!(parse(&whole).id(), Some(id));
        }
        for other in ["019", "0192", "0191-beef", "dev/0191", "0191@ds", "0191x"] {
            assert!(!parse(other).fits(id), "{other}");
        }
        assert_eq!(parse("0191").name.unwrap().name.as_str(), "0191");
    }

    #[test]
    fn what_is_no_name_and_no_id_is_refused() {
        for bad in [
            "",
            "/",
            "dev/",
            "/db",
            "de v/db",
            "dev/a/b",
            "a\\b",
            "db-123456",
            "dev/..",
        ] {
            assert!(AdminAddress::parse(bad).is_err(), "{bad}");
        }
        assert!(AdminAddress::parse(&"x".repeat(5000)).is_err());
    }

    proptest! {
        #[test]
        fn every_volume_that_can_exist_can_be_named_in_full(
            name in "[^/@\\p{C}]{1,20}", ds in "[a-z]{1,8}", group in "[a-zA-Z0-9_.-]{1,20}", any in ".{0,80}",
        ) {
            drop(AdminAddress::parse(&any));
            let volume = VolumeAddress::parse(&format!("{name}@{ds}"));
            if let (Ok(volume), Ok(group)) = (volume, GroupName::new(&group)) {
                let read = AdminAddress::parse(&format!("{group}/{volume}")).unwrap();
                prop_assert_eq!(read.name, Some(volume));
                prop_assert_eq!(read.group, Some(GroupPart::Named(group)));
            }
        }
    }
}
