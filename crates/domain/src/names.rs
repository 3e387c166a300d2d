//! Names: what a person may call a volume, and what we may safely put into a path.
//!
//! A volume's name becomes a file name on the datastore (`<name>.vdvs`, `<name>.<id8>.vmdk`), so whatever a file
//! system or the hypervisor would misread is refused here, once. The rules keep the original's
//! (at most 100 characters, no `/` or `\`, no `-NNNNNN` suffix) and close its holes (control characters, the empty
//! name, `.` and `..`, the suffixes the hypervisor gives to a disk's own side files).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::suggest;

/// Longest name in characters, as the original had it.
pub const MAX_NAME_CHARS: usize = 100;
/// Longest name in bytes: with id, suffixes and slot number it must fit a 255-byte file name.
pub const MAX_NAME_BYTES: usize = 200;

/// Endings that would collide with files the hypervisor keeps beside a disk.
const RESERVED_SUFFIXES: [&str; 5] = ["-flat", "-delta", "-ctk", "-digest", "-sesparse"];

/// Why a text is not a name. The first words are the original's where it had a text for the case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty text.
    #[error("{what} name is empty: give it at least one character")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// More than [`MAX_NAME_CHARS`] characters or [`MAX_NAME_BYTES`] bytes.
    #[error(
        "{what} name is too long (max len is {MAX_NAME_CHARS}): it has {chars} characters and {bytes} bytes, at most {MAX_NAME_BYTES} bytes fit"
    )]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Characters found.
        chars: usize,
        /// Bytes found.
        bytes: usize,
    },
    /// A slash, backslash or control character.
    #[error(
        "{what} name contains illegal characters: {found}; choose a name without '/', '\\' and control characters"
    )]
    IllegalCharacter {
        /// Which kind of name.
        what: &'static str,
        /// The character, escaped.
        found: String,
    },
    /// `.` or `..`.
    #[error("{what} name '{name}' means a folder; choose another name")]
    Dots {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `-` and six digits at the end: the hypervisor's snapshot files.
    #[error(
        "Volume names ending with '-NNNNNN' (where N is a digit) are not supported; such names belong to snapshot disks, choose another ending"
    )]
    SnapshotSuffix,
    /// An ending of a disk's side files.
    #[error(
        "Volume names ending with '{suffix}' are not supported; that ending belongs to a disk's own files, choose another ending"
    )]
    ReservedSuffix {
        /// The ending.
        suffix: &'static str,
    },
    /// Not a file-system type.
    #[error("'{name}' is not a file-system type: expected 1 to 16 of a-z, 0-9, for example ext4.{}", suggest::did_you_mean(.name, FsType::KNOWN))]
    NotAFilesystem {
        /// The text, cut to a printable length.
        name: String,
    },
}

fn check_text(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    let chars = text.chars().count();
    if chars > MAX_NAME_CHARS || text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong {
            what,
            chars,
            bytes: text.len(),
        });
    }
    if let Some(bad) = text
        .chars()
        .find(|c| matches!(c, '/' | '\\') || c.is_control())
    {
        let found = if bad.is_control() {
            bad.escape_default().to_string()
        } else {
            bad.to_string()
        };
        return Err(NameError::IllegalCharacter { what, found });
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots {
            what,
            name: text.to_owned(),
        });
    }
    Ok(())
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }
    };
}

text_newtype! {
    /// A volume's name without its datastore.
    VolumeName
}

impl VolumeName {
    /// Checks `text` against the rules of this module.
    ///
    /// # Errors
    /// [`NameError`] naming the first rule broken.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_text("Volume", text)?;
        if ends_like_a_snapshot(text) {
            return Err(NameError::SnapshotSuffix);
        }
        if let Some(suffix) = RESERVED_SUFFIXES.into_iter().find(|s| text.ends_with(s)) {
            return Err(NameError::ReservedSuffix { suffix });
        }
        Ok(Self(text.to_owned()))
    }
}

/// `-` and exactly six ASCII digits at the end; five or seven digits are an ordinary name.
fn ends_like_a_snapshot(text: &str) -> bool {
    let mut tail = text.chars().rev();
    tail.by_ref().take(6).filter(char::is_ascii_digit).count() == 6 && tail.next() == Some('-')
}

text_newtype! {
    /// A datastore's name as the hypervisor spells it.
    DatastoreName
}

impl DatastoreName {
    /// Checks `text`: not empty, bounded, no separators or control characters.
    ///
    /// # Errors
    /// [`NameError`] naming the first rule broken.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_text("Datastore", text)?;
        Ok(Self(text.to_owned()))
    }

    /// Whether a person who typed `other` means this datastore (letter case does not matter, as in the original).
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0 == other.0 || self.0.to_lowercase() == other.0.to_lowercase()
    }
}

text_newtype! {
    /// A vmgroup's name. At most 64 characters of letters, digits, `_`, `-`, `.`.
    GroupName
}

impl GroupName {
    /// The group every VM belongs to that no other group names.
    pub const DEFAULT: &'static str = "_DEFAULT";

    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] naming the first rule broken.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_text("Vmgroup", text)?;
        if let Some(bad) = text
            .chars()
            .find(|c| !(c.is_alphanumeric() || "_-.".contains(*c)))
        {
            return Err(NameError::IllegalCharacter {
                what: "Vmgroup",
                found: bad.to_string(),
            });
        }
        if text.chars().count() > 64 {
            let chars = text.chars().count();
            return Err(NameError::TooLong {
                what: "Vmgroup",
                chars,
                bytes: text.len(),
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// `_DEFAULT`.
    #[must_use]
    pub fn default_group() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

text_newtype! {
    /// A vSAN policy's name: the name of the file that holds it.
    PolicyName
}

impl PolicyName {
    /// Checks `text`: not empty, bounded, no separators or control characters.
    ///
    /// # Errors
    /// [`NameError`] naming the first rule broken.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_text("Policy", text)?;
        Ok(Self(text.to_owned()))
    }
}

text_newtype! {
    /// A file-system type such as `ext4`: what stands behind `mkfs.` in a program's name.
    FsType
}

impl FsType {
    /// The types every node of ours can make: what a slip of the pen is compared with. A node may know more.
    pub const KNOWN: [&'static str; 3] = ["ext4", "xfs", "btrfs"];

    /// Checks `text`: 1 to 16 of `a`-`z`, `0`-`9`. The strictness keeps user text out of program names.
    ///
    /// # Errors
    /// [`NameError::NotAFilesystem`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        let ok = (1..=16).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            let name = text.chars().take(32).collect();
            Err(NameError::NotAFilesystem { name })
        }
    }

    /// The default of *create*: `ext4`.
    #[must_use]
    pub fn ext4() -> Self {
        Self("ext4".to_owned())
    }
}

/// A volume as a person names it: `name` or `name@datastore`. The text after the **last** `@` is the datastore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeAddress {
    /// The volume.
    pub name: VolumeName,
    /// The datastore, when the person named one. `x@` names none, as in the original.
    pub datastore: Option<DatastoreName>,
}

impl VolumeAddress {
    /// Splits `text` at the last `@` and checks both parts.
    ///
    /// # Errors
    /// [`NameError`] of the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // Bounded before any work: the text comes from a guest.
        if text.len() > 2 * MAX_NAME_BYTES + 1 {
            let chars = text.chars().count();
            return Err(NameError::TooLong {
                what: "Volume",
                chars,
                bytes: text.len(),
            });
        }
        let (name, datastore) = match text.rsplit_once('@') {
            None => (text, None),
            Some((name, "")) => (name, None),
            Some((name, ds)) => (name, Some(DatastoreName::new(ds)?)),
        };
        Ok(Self {
            name: VolumeName::new(name)?,
            datastore,
        })
    }
}

impl fmt::Display for VolumeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.datastore {
            // What follows the last `@` would be read as the datastore.
            None if self.name.as_str().contains('@') => write!(f, "{}@", self.name),
            None => write!(f, "{}", self.name),
            Some(ds) => write!(f, "{}@{ds}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_after_the_last_at_is_the_datastore() {
        let a = VolumeAddress::parse("a@b@ds1").unwrap();
        assert_eq!(
            (a.name.as_str(), a.datastore.unwrap().as_str()),
            ("a@b", "ds1")
        );
        assert_eq!(VolumeAddress::parse("x@").unwrap().datastore, None);
    }

    #[test]
    fn an_address_without_datastore_prints_as_one_whatever_its_name() {
        for text in ["x", "a@b@", "x@@"] {
            let address = VolumeAddress::parse(text).unwrap();
            assert_eq!(address.datastore, None, "{text}");
            assert_eq!(VolumeAddress::parse(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn a_snapshot_suffix_has_exactly_six_digits() {
        assert_eq!(VolumeName::new("v-000001"), Err(NameError::SnapshotSuffix));
        assert!(VolumeName::new("v-00001").is_ok());
        assert!(VolumeName::new("v-0000001").is_ok());
        assert!(VolumeName::new("000001").is_ok());
    }

    #[test]
    fn names_the_original_let_through_by_mistake_are_refused() {
        for bad in [
            "", ".", "..", "a\nb", "a\0b", "a/b", "a\\b", "v-flat", "v-ctk", "v-delta",
        ] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a b", "żółw", "*", "#", "[x]", ".hidden", "it's", "naïve@"] {
            assert!(VolumeAddress::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn length_counts_characters_and_bytes() {
        assert!(VolumeName::new(&"x".repeat(100)).is_ok());
        let err = VolumeName::new(&"x".repeat(101)).unwrap_err().to_string();
        assert!(
            err.starts_with("Volume name is too long (max len is 100)"),
            "{err}"
        );
        assert!(VolumeName::new(&"漢".repeat(67)).is_err(), "201 bytes");
    }

    #[test]
    fn datastores_match_without_regard_to_case() {
        let real = DatastoreName::new("vsanDatastore").unwrap();
        assert!(real.matches(&DatastoreName::new("VSANDATASTORE").unwrap()));
        assert!(!real.matches(&DatastoreName::new("vsan").unwrap()));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in ".{0,220}") {
            if let Ok(address) = VolumeAddress::parse(&text) {
                prop_assert_eq!(VolumeAddress::parse(&address.to_string()).unwrap(), address);
            }
            drop(FsType::new(&text));
            drop(GroupName::new(&text));
        }

        #[test]
        fn a_good_name_never_leaves_its_folder(text in ".{0,120}") {
            if let Ok(name) = VolumeName::new(&text) {
                prop_assert!(!name.as_str().contains('/'));
                prop_assert!(name.as_str() != "." && name.as_str() != "..");
            }
        }
    }
}
