//! What a damaged record still tells.
//!
//! Its checksum is wrong, so any byte of it may be. Each field is looked for by its name and read by itself. What could
//! cost data if it were wrong is not believed: the state of the file system, the operation, the epoch. What says who has
//! the volume is believed only where it keeps more from happening (see `evidence`). The rest is options and texts.

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};
use vdvs_domain::options::GivenOptions;
use vdvs_domain::record::Created;
use vdvs_domain::{CreateOptions, FsType, GroupId, Layout, Owner, Ownership, VolumeId};

use crate::ports::Power;

/// Fields that could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Salvage {
    pub(super) id: Option<VolumeId>,
    pub(super) short_name: Option<bool>,
    pub(super) group: Option<GroupId>,
    pub(super) protected: bool,
    pub(super) options: Option<CreateOptions>,
    pub(super) layout: Option<Layout>,
    pub(super) created: Option<Created>,
    pub(super) fstype: Option<FsType>,
    /// At least as high as every epoch there was, unless it is damaged itself.
    pub(super) epoch: Option<u64>,
    /// The VM it named as its owner.
    pub(super) owner: Option<Owner>,
}

/// The value after the first `"key":`, if there is a whole one.
fn field(bytes: &[u8], key: &str) -> Option<Value> {
    let start = format!("\"{key}\":");
    let start = start.as_bytes();
    let at = bytes.windows(start.len()).position(|w| w == start)?;
    let rest = bytes.get(at.checked_add(start.len())?..)?;
    Deserializer::from_slice(rest).into_iter().next()?.ok()
}

fn read<T: DeserializeOwned>(bytes: &[u8], key: &str) -> Option<T> {
    serde_json::from_value(field(bytes, key)?).ok()
}

/// The options one by one, so that one that cannot be read costs only itself.
fn options(bytes: &[u8]) -> Option<CreateOptions> {
    let Value::Object(found) = field(bytes, "options")? else {
        return None;
    };
    let mut sum = GivenOptions::default().resolve();
    for (key, value) in found {
        let Ok(Value::Object(mut with)) = serde_json::to_value(&sum) else {
            return None;
        };
        with.insert(key, value);
        if let Ok(better) = serde_json::from_value(Value::Object(with)) {
            sum = better;
        }
    }
    Some(sum)
}

/// Reads what can be read.
pub(super) fn of(bytes: &[u8]) -> Salvage {
    let filesystem = field(bytes, "filesystem");
    let fstype = filesystem.as_ref().and_then(|f| f.get("fstype")).cloned();
    let owner = read::<Ownership>(bytes, "ownership");
    Salvage {
        id: read(bytes, "id"),
        short_name: read(bytes, "short_name"),
        group: read(bytes, "group"),
        protected: read(bytes, "protected").unwrap_or(false),
        options: options(bytes),
        layout: read(bytes, "layout"),
        created: read(bytes, "created"),
        epoch: read(bytes, "epoch"),
        fstype: fstype.and_then(|f| serde_json::from_value(f).ok()),
        owner: owner.and_then(|o| o.owner().cloned()),
    }
}

/// Whether a VM in this state may hold a disk whose lock reads free.
pub(super) const fn sleeps(power: Power) -> bool {
    matches!(power, Power::Suspended)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"vdvs record 1 9 00000000
{"format":1,"id":"0190a1b2-0000-7000-8000-0000deadbeef","name":"db","short_name":true,"group":"11111111-1111-1111-1111-111111111111","protected":true,"capacity":1073741824,"options":{"fstype":"xfs","diskformat":"thin","attach_as":"independent_persistent","access":"read-only","failover":"fence"},"layout":"data","filesystem":{"fstype":"xfs","state":{"state":"never"}},"ownership":{"state":"free"},"epoch":7}"#;

    #[test]
    fn what_is_whole_is_read_beside_what_is_not() {
        let whole = of(TEXT.as_bytes());
        assert_eq!(whole.id.unwrap().id8(), "deadbeef");
        assert_eq!(whole.fstype.as_ref().unwrap().as_str(), "xfs");
        assert!(whole.protected && whole.short_name == Some(true));
        let torn = TEXT.replacen("\"short_name\":true", "\"short_name\":trje", 1);
        let torn = of(torn.as_bytes());
        assert_eq!(torn.short_name, None);
        assert_eq!(torn.options, whole.options, "what comes after it");
        let cut = of(&TEXT.as_bytes()[..160]);
        assert_eq!((cut.id, cut.options), (whole.id, None));
    }

    #[test]
    fn an_option_that_cannot_be_read_costs_only_itself() {
        let text = TEXT.replacen("\"failover\":\"fence\"", "\"failover\":\"fenke\"", 1);
        let options = of(text.as_bytes()).options.unwrap();
        let plain = GivenOptions::default().resolve();
        assert_eq!(options.failover, plain.failover);
        assert_eq!(options.fstype.as_str(), "xfs");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in Just(TEXT.as_bytes().to_vec()), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let at = at.index(bytes.len());
            bytes[at] = with;
            drop(of(&bytes));
            bytes.truncate(at);
            drop(of(&bytes));
        }
    }
}
