//! What the archived vSphere Docker Volume Service left beside its disks: the metadata file and the descriptor.
//!
//! Both are only read. The metadata is a JSON object padded with blanks to whole blocks; it was written by truncating
//! and rewriting, so it may be empty or cut off, and then the volume is adopted with defaults. (Form: the archived
//! project's host service, per-volume metadata.)

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{FsType, GroupId, Timestamp, VolumeId, VolumeName};

/// Largest metadata or descriptor file that is read; the original wrote one or two blocks of 4 KiB, and took for a
/// descriptor only what had at most 5,000 bytes.
pub(crate) const MAX_FILE: usize = 64 * 1024;
/// Namespace of the identities of adopted volumes. Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_2f5e_9a63_4b0e_8f61_7664_7673_6164);

/// What a metadata file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Options as far as we know them too.
    pub(crate) options: GivenOptions,
    /// When the volume was made.
    pub(crate) created: Timestamp,
    /// Display name of the VM that made it; empty when not known.
    pub(crate) created_by: String,
    /// Display name of the VM it was attached to when the file was written.
    pub(crate) attached_to: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    status: String,
    #[serde(default, rename = "volOpts")]
    options: BTreeMap<String, Value>,
    #[serde(default)]
    created: String,
    #[serde(default, rename = "created-by")]
    created_by: String,
    #[serde(default, rename = "attachedVMName")]
    vm: Option<String>,
}

/// Reads a metadata file. `None`: it is empty, cut off or something else.
pub(crate) fn metadata(bytes: &[u8]) -> Option<Metadata> {
    // A list would be read as an object's values in order.
    let bytes = bytes.trim_ascii();
    let file: File = serde_json::from_slice(bytes)
        .ok()
        .filter(|_| bytes.starts_with(b"{"))?;
    let options = file
        .options
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .fold(GivenOptions::default(), with_option);
    Some(Metadata {
        options,
        created: asctime(&file.created).unwrap_or_default(),
        created_by: file.created_by,
        attached_to: file.vm.filter(|_| file.status == "attached"),
    })
}

/// Options one by one, so that one we do not understand costs only itself.
fn with_option(mut sum: GivenOptions, (key, value): (String, String)) -> GivenOptions {
    let only = BTreeMap::from([(key, value)]);
    let Ok(one) = GivenOptions::parse(&only) else {
        return sum;
    };
    sum.fstype = one.fstype.or(sum.fstype);
    sum.diskformat = one.diskformat.or(sum.diskformat);
    sum.attach_as = one.attach_as.or(sum.attach_as);
    sum.access = one.access.or(sum.access);
    sum
}

/// Reads C's `asctime` form, which the original wrote in UTC: `Mon Aug 21 04:36:08 2017`.
fn asctime(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, time, year] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|m| m == month)?;
    let month = u64::try_from(month).ok()? + 1;
    let day: u64 = day.parse().ok().filter(|d| (1..=31).contains(d))?;
    let year: u64 = year.parse().ok().filter(|y| (1970..=9999).contains(y))?;
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if clock.next().is_some() || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some(Timestamp::from_millis(seconds * 1000))
}

/// Days between 1 January 1970 and a date of the Gregorian calendar. Counts years from March, so that a leap day ends one.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_TO_1970: u64 = 719_468;
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970
}

/// The disk's own UUID (`ddb.uuid`) in a descriptor's text.
pub(crate) fn disk_uuid(descriptor: &str) -> Option<Uuid> {
    let value = descriptor.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "ddb.uuid").then_some(value)
    })?;
    let hex: String = value.chars().filter(char::is_ascii_hexdigit).collect();
    Uuid::try_parse(&hex).ok()
}

/// Whether a file's content is a disk's descriptor, and not an extent or something else by that name.
pub(crate) fn is_descriptor(text: &str) -> bool {
    text.trim_start().starts_with("# Disk DescriptorFile")
}

/// Whether a file beside a volume's disk is its metadata: `<volume>-<16 hexadecimal digits>.vmfd`.
pub(crate) fn is_metadata_file(file: &str, name: &VolumeName) -> bool {
    let digits = file
        .strip_prefix(name.as_str())
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".vmfd"));
    digits.is_some_and(|d| d.len() == 16 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The metadata file a descriptor names: on its line with the word `sidecars`, from the first comma to the next quote.
pub(crate) fn metadata_file(descriptor: &str, name: &VolumeName) -> Option<String> {
    let line = descriptor.lines().find(|l| l.contains("sidecars"))?;
    let (_, rest) = line.split_once(',')?;
    let file = rest.split('"').next()?.trim();
    is_metadata_file(file, name).then(|| file.to_owned())
}

/// The type a freshly probed file system is taken for until a guest has looked.
pub(crate) fn fstype(metadata: &Metadata) -> FsType {
    metadata.options.fstype.clone().unwrap_or_else(FsType::ext4)
}

/// The identity of an adopted volume. It follows from what every host sees, so that hosts that adopt one at the same
/// time mean the same volume, and a list gives it before there is a record. The disk's own UUID makes the next disk of
/// the same name another volume. The last eight digits are zero, which tells its files (see the layout).
pub(crate) fn volume_id(
    datastore: Uuid,
    group: GroupId,
    name: &VolumeName,
    disk: Option<Uuid>,
) -> VolumeId {
    let disk = disk.unwrap_or_default();
    let seed = format!("{datastore}/{group}/{disk}/{name}");
    let hash = Uuid::new_v5(&NAMESPACE, seed.as_bytes()).as_u128();
    VolumeId::new(Uuid::from_u128(hash >> 32 << 32))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use vdvs_domain::{Access, DiskFormat};

    use super::*;

    #[test]
    fn the_originals_metadata_is_read_with_its_padding() {
        let text = r#"{"status":"attached","volOpts":{"diskformat":"eagerzeroedthick","fstype":"xfs","size":"2gb","access":"read-only","foo":"1"},"created-by":"worker1","created":"Tue Jun 20 08:32:19 2017","attachedVMName":"worker2"}"#;
        let padded = format!("{text:<4096}\n");
        let read = metadata(padded.as_bytes()).unwrap();
        assert_eq!(fstype(&read).as_str(), "xfs");
        assert_eq!(read.options.diskformat, Some(DiskFormat::EagerZeroedThick));
        assert_eq!(read.options.access, Some(Access::ReadOnly));
        assert_eq!(read.created.millis(), 1_497_947_539_000);
        assert_eq!(
            (read.created_by.as_str(), read.attached_to.as_deref()),
            ("worker1", Some("worker2"))
        );
    }

    #[test]
    fn an_empty_or_cut_off_metadata_file_is_no_metadata() {
        for torn in ["", "   \n", "{\"status\":", "null", "[]", "{} x"] {
            assert_eq!(metadata(torn.as_bytes()), None, "{torn:?}");
        }
        assert_eq!(metadata(b"{}"), Some(Metadata::default()));
    }

    #[test]
    fn dates_are_counted_as_everybody_counts_them() {
        let millis = |text| asctime(text).map(Timestamp::millis);
        assert_eq!(millis("Thu Jan  1 00:00:00 1970"), Some(0));
        assert_eq!(millis("Tue Feb 29 12:00:00 2000"), Some(951_825_600_000));
        assert_eq!(millis("Mon Aug 21 04:36:08 2017"), Some(1_503_290_168_000));
        for bad in [
            "",
            "Mon Foo 21 04:36:08 2017",
            "Mon Aug 21 2017",
            "Mon Aug 32 04:36:08 2017",
        ] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_metadata_file_is_the_one_the_descriptor_names() {
        let name = VolumeName::new("n5").unwrap();
        let line = "ddb.sidecars = \"docker-volume-vsphere,n5-4b88db79778570b6.vmfd\"";
        let named = metadata_file(line, &name);
        assert_eq!(named.as_deref(), Some("n5-4b88db79778570b6.vmfd"));
        let elsewhere = "sidecars = \"x,../n5-4b88db79778570b6.vmfd\"";
        assert_eq!(metadata_file(elsewhere, &name), None);
        assert!(!is_metadata_file("n50-4b88db79778570b6.vmfd", &name));
    }

    #[test]
    fn a_disk_copied_to_the_same_name_is_another_volume() {
        let (datastore, name) = (Uuid::from_u128(1), VolumeName::new("db").unwrap());
        let text = "# Disk DescriptorFile\nddb.uuid = \"60 00 C2 9e 5b 0a 63 0d-0f 9b 8b 1d 2b 60 c4 5e\"\n";
        let disk = disk_uuid(text);
        assert!(disk.is_some() && is_descriptor(text));
        let id = volume_id(datastore, GroupId::DEFAULT, &name, disk);
        assert_eq!(id.id8(), "00000000");
        assert_eq!(id, volume_id(datastore, GroupId::DEFAULT, &name, disk));
        assert_ne!(id, volume_id(datastore, GroupId::DEFAULT, &name, None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300), text in ".{0,80}") {
            let name = VolumeName::new("db").unwrap();
            drop(metadata(&bytes));
            prop_assert!(asctime(&text).is_none() || text.split_whitespace().count() == 5);
            prop_assert!(disk_uuid(&text).is_none() || text.contains("ddb.uuid"));
            prop_assert!(metadata_file(&text, &name).is_none_or(|f| is_metadata_file(&f, &name)));
        }
    }
}
