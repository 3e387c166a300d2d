//! Capacity: how large a disk is, in bytes, and the ways people write it.
//!
//! Units are binary whatever their spelling (`1gb` = 1 GiB), as the original had them; `MiB`, `GiB`, `TiB` are
//! accepted for people who want to be exact.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a disk sector.
pub const SECTOR: u64 = 512;
/// The smallest disk we make: every supported file system fits.
pub const MIN_BYTES: u64 = 1024 * 1024;
/// The largest: the hypervisor's 62 TB limit for a virtual disk.
pub const MAX_BYTES: u64 = 62 * 1024 * 1024 * 1024 * 1024;

/// A disk's size: a whole number of sectors within [`MIN_BYTES`] and [`MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Capacity(u64);

/// Why a text or number is not a capacity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Not a number with a unit.
    #[error(
        "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b where X is an integer. Default = 1gb (also accepted: MiB, GiB, TiB); got '{}'.{}",
        .0, hint(.0)
    )]
    Format(String),
    /// Zero, or below [`MIN_BYTES`].
    #[error("Invalid volume size specified. The smallest volume is 1mb; got {0} bytes")]
    TooSmall(u64),
    /// Above [`MAX_BYTES`].
    #[error("Invalid volume size specified. The largest volume is 62tb")]
    TooLarge,
    /// Not a multiple of [`SECTOR`].
    #[error("a disk of {0} bytes does not end on a sector of 512 bytes")]
    NotSectors(u64),
}

impl Capacity {
    /// What *create* makes when no size is asked for: 1 GiB.
    pub const DEFAULT: Self = Self(1024 * 1024 * 1024);

    /// The smallest there is: what any limit allows.
    pub const SMALLEST: Self = Self(MIN_BYTES);

    /// A capacity of `bytes`.
    ///
    /// # Errors
    /// [`CapacityError`] when outside the limits or not whole sectors.
    pub const fn from_bytes(bytes: u64) -> Result<Self, CapacityError> {
        if bytes < MIN_BYTES {
            Err(CapacityError::TooSmall(bytes))
        } else if bytes > MAX_BYTES {
            Err(CapacityError::TooLarge)
        } else if bytes.is_multiple_of(SECTOR) {
            Ok(Self(bytes))
        } else {
            Err(CapacityError::NotSectors(bytes))
        }
    }

    /// Reads `10mb`, `2GB`, `1tb`, `512MiB`, `3GiB`: digits and a unit, nothing between or around them.
    ///
    /// # Errors
    /// [`CapacityError::Format`] for any other form, the limits' errors otherwise.
    pub fn parse(text: &str) -> Result<Self, CapacityError> {
        let format = || CapacityError::Format(text.chars().take(40).collect());
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(format)?;
        let (digits, unit) = text.split_at(split);
        let number: u64 = match digits.parse() {
            Ok(n) => n,
            // Digits only, so the one thing that can be wrong with a non-empty text is its size.
            Err(_) if !digits.is_empty() && is_unit(unit) => return Err(CapacityError::TooLarge),
            Err(_) => return Err(format()),
        };
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "mb" | "mib" => 1 << 20,
            "gb" | "gib" => 1 << 30,
            "tb" | "tib" => 1 << 40,
            _ => return Err(format()),
        };
        Self::from_bytes(number.checked_mul(factor).ok_or(CapacityError::TooLarge)?)
    }

    /// Reads VIC's form: as [`Self::parse`], and a number without unit is MB.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_mebibytes(text: &str) -> Result<Self, CapacityError> {
        let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match number {
            true => Self::parse(&format!("{text}mb")),
            false => Self::parse(text),
        }
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Size in sectors of 512 bytes.
    #[must_use]
    pub const fn sectors(self) -> u64 {
        self.0 / SECTOR
    }
}

fn is_unit(unit: &str) -> bool {
    ["mb", "mib", "gb", "gib", "tb", "tib"]
        .iter()
        .any(|u| unit.eq_ignore_ascii_case(u))
}

/// ` Did you mean '…'?` for a text that a person, or another system, takes for a size.
fn hint(text: &str) -> String {
    meant(text).map_or_else(String::new, |size| format!(" Did you mean '{size}'?"))
}

/// The valid spelling of what `text` seems to say: a decimal number and the first letter of a unit.
fn meant(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '_'))
        .flat_map(char::to_lowercase)
        .collect();
    let split = plain
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(plain.len());
    let (number, unit) = plain.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok().filter(|n| *n < 1 << 64)?;
    let fraction: u128 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let factor: u128 = match unit.chars().next() {
        Some('k') => 1 << 10,
        Some('m') => 1 << 20,
        Some('g') => 1 << 30,
        Some('t') => 1 << 40,
        Some(_) => return None,
        // Bytes, as other systems count; or megabytes and gigabytes, by what makes a disk.
        None if whole >= u128::from(MIN_BYTES) => 1,
        None if whole >= 100 => 1 << 20,
        None => 1 << 30,
    };
    let bytes = whole * factor + fraction * factor / 1000;
    let mebibytes = bytes.div_ceil(1 << 20);
    let size = match mebibytes {
        n if n % (1 << 20) == 0 => format!("{}tb", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}gb", n >> 10),
        n => format!("{n}mb"),
    };
    Capacity::parse(&size).is_ok().then_some(size)
}

/// Any number of bytes, in the largest unit that says it exactly: sums that a limit is compared with.
#[must_use]
pub fn exact(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10)];
    let fits = |(_, bits): &&(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *bits;
    match UNITS.iter().find(fits) {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}B"),
    }
}

/// Prints any number of bytes as the original printed sizes: `100MB`, `1GB`, with at most two decimals.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1 << 40),
        ("GB", 1 << 30),
        ("MB", 1 << 20),
        ("KB", 1 << 10),
    ];
    for (unit, size) in UNITS {
        if bytes >= size {
            let whole = bytes / size;
            let hundredths = (bytes % size) * 100 / size;
            return match (hundredths / 10, hundredths % 10) {
                (0, 0) => format!("{whole}{unit}"),
                (tenths, 0) => format!("{whole}.{tenths}{unit}"),
                _ => format!("{whole}.{hundredths:02}{unit}"),
            };
        }
    }
    format!("{bytes}B")
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human(self.0))
    }
}

impl From<Capacity> for u64 {
    fn from(c: Capacity) -> Self {
        c.0
    }
}

impl TryFrom<u64> for Capacity {
    type Error = CapacityError;
    fn try_from(bytes: u64) -> Result<Self, CapacityError> {
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sum_is_told_exactly() {
        let told = [
            (0, "0B"),
            (157_286_400, "150MB"),
            (157_286_401, "157286401B"),
            (3 << 29, "1536MB"),
            (1 << 41, "2TB"),
        ];
        for (bytes, text) in told {
            assert_eq!(exact(bytes), text);
        }
    }

    #[test]
    fn the_originals_test_vectors_hold() {
        for good in ["10mb", "10MB", "10Mb"] {
            assert_eq!(Capacity::parse(good).unwrap().bytes(), 10 << 20, "{good}");
        }
        for bad in [
            "10", "mb", "-1gb", "1.5gb", "10kb", "10 gb", "10²mb", "", " 1gb", "1gb ",
        ] {
            let err = Capacity::parse(bad).unwrap_err();
            assert!(matches!(err, CapacityError::Format(_)), "{bad}: {err}");
        }
        assert!(matches!(
            Capacity::parse("0mb"),
            Err(CapacityError::TooSmall(0))
        ));
        assert_eq!(
            Capacity::parse("99999999999999999999tb"),
            Err(CapacityError::TooLarge)
        );
        assert_eq!(
            Capacity::parse("3GiB").unwrap(),
            Capacity::parse("3gb").unwrap()
        );
    }

    #[test]
    fn a_wrong_size_is_answered_with_the_right_spelling() {
        for (text, right) in [
            ("10", "10gb"),
            ("500", "500mb"),
            ("1073741824", "1gb"),
            ("1.5gb", "1536mb"),
            ("10 GB", "10gb"),
            ("10g", "10gb"),
            ("2048kb", "2mb"),
            ("10240M", "10gb"),
        ] {
            let why = Capacity::parse(text).unwrap_err().to_string();
            assert!(
                why.ends_with(&format!("Did you mean '{right}'?")),
                "{text}: {why}"
            );
        }
        for text in [
            "",
            "gb",
            "-1gb",
            "ten",
            "0",
            "1.2.3gb",
            "99999999999999999999999tb x",
        ] {
            let why = CapacityError::Format(text.to_owned()).to_string();
            assert!(!why.contains("Did you mean"), "{text}: {why}");
        }
    }

    #[test]
    fn vics_bare_number_is_megabytes() {
        assert_eq!(Capacity::parse_mebibytes("2048").unwrap().bytes(), 2 << 30);
        assert_eq!(Capacity::parse_mebibytes("2gb").unwrap().bytes(), 2 << 30);
        assert!(Capacity::parse_mebibytes("").is_err());
    }

    #[test]
    fn sizes_print_as_the_original_printed_them() {
        assert_eq!(human(100 << 20), "100MB");
        assert_eq!(human(1 << 30), "1GB");
        assert_eq!(human((1 << 30) + (1 << 29)), "1.5GB");
        assert_eq!(human(0), "0B");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            drop(Capacity::parse(&text));
            if let Some(size) = meant(&text) {
                prop_assert!(Capacity::parse(&size).is_ok(), "{}", size);
            }
        }

        #[test]
        fn whole_megabytes_survive_printing_and_parsing(n in 1u64..1024) {
            let c = Capacity::parse(&format!("{n}mb")).unwrap();
            prop_assert_eq!(Capacity::parse(&c.to_string().to_lowercase()).unwrap(), c);
        }
    }
}
