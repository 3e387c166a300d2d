//! What people do wrong, and the exact text they get. Scripts match the first words, which are the original's where
//! it had any; the rest says what to do. Whoever changes a text changes it here.

use std::collections::BTreeMap;
use std::time::Duration;

use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Epoch, Error, VolumeAddress, VolumeName};
use vdvs_engine::ports::DatastoreKind;

use crate::support::{Lab, call, ds, rand_request};

/// Key and value of one option.
type Given<'a> = &'a [(&'a str, &'a str)];

/// What a guest hears that asks to create `name` with `options`.
async fn create(lab: &Lab, name: &str, options: Given<'_>) -> String {
    let asked: Result<_, Error> = (|| {
        let map: BTreeMap<String, String> = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Ok((VolumeAddress::parse(name)?, GivenOptions::parse(&map)?))
    })();
    let caller = lab.caller(1);
    let answer = match asked {
        Ok((address, given)) => {
            let call = call(rand_request());
            lab.engine.create(&caller, &call, &address, &given).await
        }
        Err(why) => Err(why),
    };
    answer.map(drop).unwrap_err().to_string()
}

/// A lab with volumes to make mistakes with: `free`, `mine` at vm1, `theirs` at vm2, `twice` under its short name on
/// two datastores.
async fn lab() -> Lab {
    let lab = Lab::with_datastores(&["ds", "fast"]);
    lab.world.add_datastore(&ds("vsan"), DatastoreKind::Vsan);
    for name in ["free", "mine", "theirs", "seed@vsan"] {
        lab.create(1, name).await;
    }
    lab.attach(1, "mine").await;
    lab.attach(2, "theirs").await;
    lab
}

const KEYS: &str = "[('size', '1gb'), ('vsan-policy-name', '[VSAN default]'), ('diskformat', 'thin'), ('attach-as', 'independent_persistent'), ('access', 'read-write'), ('fstype', 'ext4'), ('clone-from', 'None'), ('failover', 'wait'), ('fence-after', '15s'), ('mount-options', 'None'), ('uid', '0'), ('gid', '0'), ('mode', '0755'), ('Capacity', 'as size'), ('VolumeStore', '[default datastore]')]";

const SIZE: &str = "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b where X is an integer. Default = 1gb (also accepted: MiB, GiB, TiB); got ";

#[tokio::test(start_paused = true)]
async fn a_mistake_in_an_option_is_named_with_what_is_right() {
    let lab = lab().await;
    let unknown = |key: &str, hint: &str| {
        format!("Invalid options: ['{key}'] \nValid options and defaults: {KEYS}{hint}")
    };
    let rows: Vec<(Given<'_>, String)> = vec![
        (&[("sise", "1gb")], unknown("sise", "\nDid you mean 'size'?")),
        (&[("Fstype", "xfs")], unknown("Fstype", "\nDid you mean 'fstype'?")),
        (&[("datastore", "fast")], unknown("datastore", "\nDid you mean 'VolumeStore'?")),
        (&[("replicas", "2")], unknown("replicas", "")),
        (&[("size", "10")], format!("{SIZE}'10'. Did you mean '10gb'?")),
        (&[("size", "1.5gb")], format!("{SIZE}'1.5gb'. Did you mean '1536mb'?")),
        (&[("size", "lots")], format!("{SIZE}'lots'.")),
        (
            &[("size", "0mb")],
            "Invalid volume size specified. The smallest volume is 1mb; got 0 bytes".to_owned(),
        ),
        (
            &[("size", "63tb")],
            "Invalid volume size specified. The largest volume is 62tb".to_owned(),
        ),
        (
            &[("size", "1gb"), ("Capacity", "2048")],
            "size and Capacity are one option and ask for 1GB and 2GB; give one of them".to_owned(),
        ),
        (
            &[("fstype", "Ext4")],
            "'Ext4' is not a file-system type: expected 1 to 16 of a-z, 0-9, for example ext4. Did you mean 'ext4'?".to_owned(),
        ),
        (
            &[("diskformat", "thick")],
            "Disk Allocation Format 'thick' is not supported. Valid options are: ['zeroedthick', 'thin', 'eagerzeroedthick']. Did you mean 'zeroedthick'?".to_owned(),
        ),
        (
            &[("attach-as", "persistant")],
            "Attach type 'persistant' is not supported. Valid options are: ['independent_persistent', 'persistent']. Did you mean 'persistent'?".to_owned(),
        ),
        (
            &[("access", "ro")],
            "Access type 'ro' is not supported. Valid options are: ['read-write', 'read-only']. Did you mean 'read-only'?".to_owned(),
        ),
        (
            &[("failover", "fense")],
            "Failover 'fense' is not supported. Valid options are: ['wait', 'fence']. Did you mean 'fence'?".to_owned(),
        ),
        (
            &[("failover", "fence"), ("fence-after", "soon")],
            "fence-after 'soon' is not a time: expected 1 to 3600 seconds, as in 15, 15s or 2m".to_owned(),
        ),
        (
            &[("fence-after", "30")],
            "fence-after is read only together with failover=fence; add -o failover=fence, or leave it out".to_owned(),
        ),
        (
            &[("mount-options", "ro")],
            "Mount option 'ro' is not supported: use -o access=read-only".to_owned(),
        ),
        (
            &[("mount-options", "noatim")],
            "Mount option 'noatim' is not supported: valid with ext4 are: noatime, nodiratime, relatime, strictatime, lazytime, nodev, nosuid, noexec, sync, dirsync, discard, nodiscard, commit=N, data=ordered, data=journal, nodelalloc, delalloc. Did you mean 'noatime'?".to_owned(),
        ),
        (
            &[("uid", "postgres")],
            "uid 'postgres' is not a number: expected 0 to 4294967294, as id prints it".to_owned(),
        ),
        (
            &[("mode", "u+rwx")],
            "mode 'u+rwx' is not supported: expected octal digits, as in 0755 or 2770".to_owned(),
        ),
    ];
    for (options, text) in rows {
        assert_eq!(create(&lab, "new", options).await, text, "{options:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mistake_in_a_place_or_policy_lists_what_there_is() {
    let lab = lab().await;
    let rows: Vec<(&str, Given<'_>, &str)> = vec![
        (
            "new@fsat",
            &[],
            "Invalid datastore 'fsat'.\nKnown datastores: ds, fast, vsan.\nName one of these, as in volume@datastore, or none. Did you mean 'fast'?",
        ),
        (
            "new",
            &[("VolumeStore", "slow")],
            "Invalid datastore 'slow'.\nKnown datastores: ds, fast, vsan.\nName one of these, as in volume@datastore, or none.",
        ),
        (
            "new@ds",
            &[("VolumeStore", "fast")],
            "the volume is asked for on two datastores, fast (VolumeStore) and ds; name one of them",
        ),
        (
            "new",
            &[("vsan-policy-name", "gold")],
            "Cannot use a VSAN policy on a non-VSAN datastore: ds is of type vmfs; leave vsan-policy-name out, or name a vSAN datastore (vsan)",
        ),
        (
            "new@vsan",
            &[("vsan-policy-name", "glod")],
            "Policy glod does not exist. Leave vsan-policy-name out, or ask the administrator for a policy (vdvs policy ls)",
        ),
        (
            "free",
            &[("size", "2gb"), ("fstype", "xfs")],
            "Volume free@ds already exists with other options (size: asked 2GB, has 1GB; fstype: asked xfs, has ext4); use it as it is, remove it first, or choose another name",
        ),
        (
            "",
            &[],
            "Volume name is empty: give it at least one character",
        ),
        (
            "a/b",
            &[],
            "Volume name contains illegal characters: /; choose a name without '/', '\\' and control characters",
        ),
        (
            "snap-000001",
            &[],
            "Volume names ending with '-NNNNNN' (where N is a digit) are not supported; such names belong to snapshot disks, choose another ending",
        ),
        (
            "disk-flat",
            &[],
            "Volume names ending with '-flat' are not supported; that ending belongs to a disk's own files, choose another ending",
        ),
    ];
    for (name, options, text) in rows {
        assert_eq!(
            create(&lab, name, options).await,
            text,
            "{name} {options:?}"
        );
    }
    assert_eq!(
        create(&lab, &"x".repeat(101), &[]).await,
        "Volume name is too long (max len is 100): it has 101 characters and 101 bytes, at most 200 bytes fit"
    );
}

#[tokio::test(start_paused = true)]
async fn a_mistake_in_a_clone_names_the_source_and_who_has_it() {
    let lab = lab().await;
    let rows: Vec<(Given<'_>, &str)> = vec![
        (
            &[("clone-from", "fre")],
            "Could not find volume for cloning fre (looked on: ds, fast, vsan); docker volume ls shows the volumes there are",
        ),
        (
            &[("clone-from", "free@fast")],
            "Could not find volume for cloning free@fast (looked on: fast); docker volume ls shows the volumes there are",
        ),
        (
            &[("clone-from", "a/b")],
            "Could not find volume for cloning a/b: Volume name contains illegal characters: /; choose a name without '/', '\\' and control characters",
        ),
        (
            &[("clone-from", "theirs")],
            "Failed to clone volume theirs@ds, in use by VM = vm2. It is attached to VM vm2 on host esx01 since 2026-01-01 00:00:00 UTC; stop its containers there, or see: vdvs volume inspect theirs@ds",
        ),
        (
            &[("clone-from", "free"), ("size", "5gb")],
            "Cannot define the size for a clone: 5GB was asked for, free@ds has 1GB, and a clone has its source's size; leave size out",
        ),
        (
            &[("clone-from", "free"), ("fstype", "xfs")],
            "Cannot define the filesystem type for a clone: xfs was asked for, free@ds has ext4, and a clone has its source's file system; leave fstype out",
        ),
        (
            &[("clone-from", "free"), ("uid", "999")],
            "Cannot define the uid for a clone: its folder is a copy of the source's; change it in a container",
        ),
    ];
    for (options, text) in rows {
        assert_eq!(create(&lab, "new", options).await, text, "{options:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_had_names_its_holder_or_what_is_missing() {
    let lab = lab().await;
    let text = |answer: Result<(), Error>| answer.unwrap_err().to_string();
    let none = Duration::ZERO;
    let held = "It is attached to VM vm2 on host esx01 since 2026-01-01 00:00:00 UTC; stop its containers there, or see: vdvs volume inspect theirs@ds";
    assert_eq!(
        text(lab.try_delete(1, 1, "theirs").await.map(drop)),
        format!("Failed to remove volume theirs@ds, in use by VM = vm2. {held}")
    );
    assert_eq!(
        text(lab.try_attach(1, 2, "theirs", none).await.map(drop)),
        format!("Failed to attach volume theirs@ds, in use by VM = vm2. {held}")
    );
    assert_eq!(
        text(lab.try_attach(1, 3, "gone", none).await.map(drop)),
        "Volume gone not found (looked on: ds, fast, vsan); docker volume ls shows the volumes there are"
    );
    lab.attach(1, "free").await;
    let late = lab.get(1, "free").await.unwrap();
    assert_eq!(
        text(lab.try_delete(1, 4, "free").await.map(drop)),
        "Failed to remove volume free@ds, in use by VM = vm1. It is attached to VM vm1 on host esx01 since 2026-01-01 00:00:00 UTC; stop its containers there, or see: vdvs volume inspect free@ds"
    );
    let finish = lab
        .engine
        .begin_format(&lab.caller(1), &call(5), late.id, Epoch::new(0))
        .await;
    assert!(
        finish
            .unwrap_err()
            .to_string()
            .ends_with("the message is late and was ignored")
    );
    lab.world.reach(lab.host, &ds("fast"), false);
    assert_eq!(
        create(&lab, "unsure", &[]).await,
        "datastore fast cannot be read (it is not accessible), so it is not known whether the volume exists there; nothing changed. Bring the datastore back, then try again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_datastore_of_another_spelling_is_found_unless_two_are() {
    let lab = Lab::with_datastores(&["ds", "fast", "FAST"]);
    lab.create(1, "v@DS").await;
    assert_eq!(
        create(&lab, "w@Fast", &[]).await,
        "Found multiple datastores with same name (ignoring case difference): ['FAST', 'fast']; write the one you mean exactly"
    );
}

#[test]
fn two_claimants_of_one_short_name_are_both_named() {
    let why = Error::Ambiguous {
        name: VolumeName::new("v").unwrap(),
        datastores: "ds, fast".to_owned(),
    };
    assert_eq!(
        why.to_string(),
        "volume name v is ambiguous: it exists on ds, fast; name one in full: v@ds or v@fast"
    );
}
