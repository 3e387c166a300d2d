use std::collections::BTreeMap;

use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{from_str, json, to_value};

use super::*;
use crate::Capacity;

fn parse(pairs: &[(&str, &str)]) -> Result<GivenOptions, OptionError> {
    GivenOptions::parse(
        &pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    parse(pairs).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_one_thin_gibibyte_of_ext4() {
    let given = parse(&[]).unwrap();
    assert_eq!(given.capacity().bytes(), 1 << 30);
    let options = given.resolve();
    assert_eq!(
        (options.fstype.as_str(), options.diskformat),
        ("ext4", DiskFormat::Thin)
    );
}

#[test]
fn refusals_start_with_the_originals_words() {
    for (key, value, text) in [
        (
            "foo",
            "1",
            "Invalid options: ['foo'] \nValid options and defaults: [('size', '1gb'), ('vsan-policy-name', '[VSAN default]'), ",
        ),
        (
            "size",
            "10",
            "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b",
        ),
        (
            "diskformat",
            "Thin",
            "Disk Allocation Format 'Thin' is not supported. Valid options are: ['zeroedthick', 'thin', 'eagerzeroedthick']. Did you mean 'thin'?",
        ),
        (
            "attach-as",
            "x",
            "Attach type 'x' is not supported. Valid options are: ['independent_persistent', 'persistent']",
        ),
        (
            "access",
            "rw",
            "Access type 'rw' is not supported. Valid options are: ['read-write', 'read-only']. Did you mean 'read-write'?",
        ),
    ] {
        let err = refusal(&[(key, value)]);
        assert!(err.starts_with(text), "{key}={value}: {err}");
    }
}

#[test]
fn unknown_keys_name_the_nearest_ones_once() {
    let err = refusal(&[("Size", "1gb"), ("sise", "1gb"), ("filesystem", "xfs")]);
    assert!(
        err.starts_with("Invalid options: ['Size', 'filesystem', 'sise'] \n"),
        "{err}"
    );
    assert!(err.ends_with("\nDid you mean 'size', 'fstype'?"), "{err}");
    assert!(!refusal(&[("foo", "1")]).contains("Did you mean"));
}

#[test]
fn vics_names_mean_ours() {
    let vic = parse(&[("Capacity", "2048"), ("VolumeStore", "fast ds")]).unwrap();
    assert_eq!(vic.size, Some(Capacity::parse("2gb").unwrap()));
    assert_eq!(vic.canonical(), "size=2147483648 VolumeStore=fast%20ds");
    assert_eq!(parse(&[("capacity", "2GB")]).unwrap().size, vic.size);
    assert_eq!(
        parse(&[("size", "2gb"), ("Capacity", "2048")])
            .unwrap()
            .size,
        vic.size
    );
    assert_eq!(
        refusal(&[("size", "1gb"), ("Capacity", "2048")]),
        "size and Capacity are one option and ask for 1GB and 2GB; give one of them"
    );
    assert!(parse(&[("VolumeStore", "a"), ("volumestore", "b")]).is_err());
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    assert!(refusal(&[("fence-after", "15")]).contains("failover=fence"));
    assert!(parse(&[("fence-after", "20"), ("failover", "fence")]).is_ok());
    let err = refusal(&[("clone-from", "v"), ("uid", "1")]);
    assert!(
        err.starts_with("Cannot define the uid for a clone"),
        "{err}"
    );
    let err = refusal(&[("clone-from", "a/b")]);
    assert!(
        err.starts_with("Could not find volume for cloning a/b"),
        "{err}"
    );
    let err = refusal(&[("mount-options", "commit=5"), ("fstype", "xfs")]);
    assert!(
        err.starts_with("Mount option 'commit=5' is not supported: valid with xfs are: "),
        "{err}"
    );
}

#[test]
fn what_was_given_has_one_spelling_for_ever() {
    let given = parse(&[("size", "1024MB"), ("access", "read-only")]).unwrap();
    assert_eq!(given.canonical(), "size=1073741824 access=read-only");
    assert_eq!(parse(&[]).unwrap().canonical(), "");
    let all = parse(&[
        ("failover", "fence"),
        ("fence-after", "2m"),
        ("vsan-policy-name", "gold"),
        ("mount-options", "noatime,discard"),
        ("uid", "999"),
        ("gid", "0999"),
        ("mode", "750"),
    ])
    .unwrap();
    assert_eq!(
        all.canonical(),
        "failover=fence fence-after=120s vsan-policy-name=gold mount-options=noatime,discard uid=999 gid=999 mode=0750"
    );
}

#[test]
fn a_repeated_create_names_only_what_was_given_and_differs() {
    let has = parse(&[("size", "1gb")]).unwrap();
    let (capacity, options) = (has.capacity(), has.resolve());
    assert!(
        parse(&[])
            .unwrap()
            .differences(capacity, &options)
            .is_empty()
    );
    assert!(
        parse(&[("size", "1024mb")])
            .unwrap()
            .differences(capacity, &options)
            .is_empty()
    );
    assert_eq!(
        parse(&[("size", "2gb"), ("fstype", "xfs"), ("mode", "0700")])
            .unwrap()
            .differences(capacity, &options),
        [
            "size: asked 2GB, has 1GB",
            "fstype: asked xfs, has ext4",
            "mode: asked 0700, has none"
        ]
    );
}

#[test]
fn a_clones_source_is_the_same_by_short_or_full_name() {
    let mut has = parse(&[]).unwrap().resolve();
    let differ = |asked: &str, has: &CreateOptions| {
        parse(&[("clone-from", asked)])
            .unwrap()
            .differences(Capacity::DEFAULT, has)
    };
    assert_eq!(differ("src", &has), ["clone-from: asked src, has none"]);
    has.clone_from = Some("src@ds1".to_owned());
    for same in ["src", "src@ds1", "src@DS1"] {
        assert!(differ(same, &has).is_empty(), "{same}");
    }
    assert_eq!(
        differ("src@ds2", &has),
        ["clone-from: asked src@ds2, has src@ds1"]
    );
    assert_eq!(
        differ("other", &has),
        ["clone-from: asked other, has src@ds1"]
    );
}

#[test]
fn records_of_the_first_version_are_read_and_written_alike() {
    let first = json!({
        "fstype": "ext4", "diskformat": "thin", "attach_as": "independent_persistent",
        "access": "read-write", "failover": "wait"
    });
    let options: CreateOptions = from_str(&first.to_string()).unwrap();
    assert_eq!(options, GivenOptions::default().resolve());
    assert_eq!(to_value(&options).unwrap(), first);
}

/// Maps of options that parse, each key left out or given one of its good values.
fn good_maps() -> impl Strategy<Value = BTreeMap<String, String>> {
    fn one(key: &'static str, values: &[&'static str]) -> BoxedStrategy<Option<(String, String)>> {
        let values = values.to_vec();
        prop_oneof![
            Just(None),
            select(values).prop_map(move |v| Some((key.to_owned(), v.to_owned()))),
        ]
        .boxed()
    }
    (
        one("size", &["1gb", "1024mb", "512MiB", "2tb"]),
        one("fstype", &["ext4", "xfs", "btrfs"]),
        one("diskformat", DiskFormat::WORDS),
        one("attach-as", AttachAs::WORDS),
        one("access", Access::WORDS),
        one("failover", Failover::WORDS),
        one("vsan-policy-name", &["gold", "with blank", "100%"]),
        one("mount-options", &["noatime", "discard,noatime"]),
        (one("uid", &["0", "999"]), one("mode", &["0700", "2775"])),
        one("VolumeStore", &["ds1", "a b", "a%20b"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, (i, j), k)| {
            [a, b, c, d, e, f, g, h, i, j, k]
                .into_iter()
                .flatten()
                .collect()
        })
}

proptest! {
    #[test]
    fn no_map_panics(map in btree_map(".{0,20}", ".{0,40}", 0..6)) {
        drop(GivenOptions::parse(&map));
    }

    #[test]
    fn a_known_key_with_any_value_never_panics(at in 0..KEYS.len(), value in ".{0,40}") {
        let map = BTreeMap::from([(KEYS[at].0.to_owned(), value)]);
        if let Err(why) = GivenOptions::parse(&map) {
            prop_assert!(!why.to_string().is_empty());
        }
    }

    #[test]
    fn a_suggested_key_is_a_valid_key(key in "[a-zA-Z-]{1,20}") {
        if let Err(OptionError::Unknown { unknown }) = GivenOptions::parse(&BTreeMap::from([(key, String::new())])) {
            let hint = key_hint(&unknown);
            let word = hint.trim_start_matches("\nDid you mean '").trim_end_matches("'?");
            prop_assert!(word.is_empty() || KEYS.iter().any(|(known, _)| *known == word), "{hint}");
        }
    }

    #[test]
    fn the_one_spelling_tells_requests_apart(a in good_maps(), b in good_maps()) {
        let (x, y) = (GivenOptions::parse(&a).unwrap(), GivenOptions::parse(&b).unwrap());
        prop_assert_eq!(x.canonical() == y.canonical(), x == y);
    }

    #[test]
    fn what_was_made_reads_back_and_needs_no_change(map in good_maps()) {
        let given = GivenOptions::parse(&map).unwrap();
        let options = given.resolve();
        prop_assert!(given.differences(given.capacity(), &options).is_empty());
        let json = to_value(&options).unwrap().to_string();
        prop_assert_eq!(&from_str::<CreateOptions>(&json).unwrap(), &options);
        // The map people see asks for the same volume.
        let shown: BTreeMap<String, String> = options
            .pairs()
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .filter(|(k, _)| k != "fence-after" || options.failover == Failover::Fence)
            .collect();
        prop_assert_eq!(GivenOptions::parse(&shown).unwrap().resolve(), options);
    }
}

#[test]
fn a_volume_too_small_for_its_file_system_is_refused_before_it_is_made() {
    for (fstype, size) in [("xfs", "299mb"), ("btrfs", "100mb")] {
        let text = parse(&[("fstype", fstype), ("size", size)])
            .unwrap_err()
            .to_string();
        assert!(text.contains(&format!("{fstype} needs at least")), "{text}");
    }
    assert!(parse(&[("fstype", "xfs"), ("size", "300mb")]).is_ok());
    assert!(parse(&[("fstype", "xfs")]).is_ok());
}
