//! Taking over the original's configuration: members by BIOS UUID, datastores by URL, limits in MB, volumes in place.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;
use vdvs_domain::{Error, ErrorKind, GroupId};
use vdvs_engine::config::{ConfigVerb, Original, OriginalGroup, OriginalPrivilege, OriginalVm};

use crate::adoption::plant_on;
use crate::config::{configure, group, init, new_group};
use crate::support::{Lab, ds, root};

const DEV: Uuid = Uuid::from_u128(0x3277_ad45_e916_4e06_8fd3_381b_6b4f_6c94);
const BIOS: Uuid = Uuid::from_u128(0x564d_1f0f_2a5b_8d1e_9b0c_0123_4567_89ab);
const GONE: Uuid = Uuid::from_u128(0x564d_0000_2a5b_8d1e_9b0c_0123_4567_89ab);

fn vm(bios: Uuid, name: &str) -> OriginalVm {
    OriginalVm {
        bios,
        name: name.to_owned(),
    }
}

fn privilege(url: &str, max_volume_mb: u64, total_mb: u64) -> OriginalPrivilege {
    OriginalPrivilege {
        datastore: url.to_owned(),
        allow_create: true,
        max_volume_mb,
        total_mb,
    }
}

fn original(id: Uuid, name: &str, with_default: bool) -> Original {
    let dev = OriginalGroup {
        id,
        name: name.to_owned(),
        description: "developers".to_owned(),
        default_datastore: "/vmfs/volumes/ds".to_owned(),
        vms: vec![vm(BIOS, "worker1"), vm(GONE, "worker9")],
        privileges: vec![
            privilege("ds:///vmfs/volumes/ds/", 500, 600),
            privilege("/vmfs/volumes/5a2c-11", 0, 0),
        ],
    };
    let default = OriginalGroup {
        id: GroupId::DEFAULT.uuid(),
        name: "_DEFAULT".to_owned(),
        description: String::new(),
        default_datastore: "_VM_DS://".to_owned(),
        vms: Vec::new(),
        privileges: vec![privilege("_ALL_DS://", 0, 350)],
    };
    Original {
        schema: (1, 2),
        groups: match with_default {
            true => vec![default, dev],
            false => vec![dev],
        },
        warnings: Vec::new(),
    }
}

fn import(original: Original, datastore: Option<&str>) -> ConfigVerb {
    ConfigVerb::Import {
        original,
        datastore: datastore.map(ds),
    }
}

/// A host of the original: its VM 1 is known by `BIOS`, and a volume lies in the folder of `_DEFAULT`.
async fn host_of_the_original() -> Lab {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    // As the platform writes it: digits in pairs, a dash in the middle.
    let digits = "56 4d 1f 0f 2a 5b 8d 1e-9b 0c 01 23 45 67 89 ab";
    let vmx = format!("displayName = \"vm1\"\nuuid.bios = \"{digits}\"\n");
    lab.world.put_file(&ds("ds"), "vm1/vm1.vmx", vmx.as_bytes());
    for datastore in ["ds", "ds2"] {
        let file = format!("dockvols/{}/x.txt", GroupId::DEFAULT);
        lab.world.put_file(&ds(datastore), &file, b"");
    }
    plant_on(&lab.world, &lab.session, "old").await;
    lab
}

#[tokio::test(start_paused = true)]
async fn a_host_of_the_original_gets_its_groups_its_limits_and_its_volumes() {
    let lab = host_of_the_original().await;
    let verb = import(original(DEV, "dev", true), Some("ds"));
    let dry = lab
        .engine
        .config_change(&root(), &verb, true)
        .await
        .unwrap();
    assert!(
        lab.get(2, "old").await.is_err(),
        "a dry run changes nothing"
    );
    let done = configure(&lab.engine, &verb).await.unwrap();
    assert_eq!(dry, done, "a dry run says what is done");
    let dev = "vmgroup dev is added: default datastore ds, 2 VMs: vm1, worker9, create on ds, each at most 500MB, in all at most 600MB; create on 5a2c-11";
    assert!(done.lines.contains(&dev.to_owned()), "{:?}", done.lines);
    assert!(
        done.lines
            .contains(&"Datastore ds2 follows the configuration on ds".to_owned())
    );
    let warned = |text: &str| done.warnings.iter().any(|w| w.contains(text));
    assert!(
        warned("member worker9 is kept by name and has no access yet"),
        "{:?}",
        done.warnings
    );
    assert!(
        warned("no datastore 5a2c-11 is known"),
        "{:?}",
        done.warnings
    );
    sleep(Duration::from_secs(2)).await;
    // Its own name space, and its limit to the byte.
    assert_eq!(
        lab.get(1, "old").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    lab.try_create(1, 1, "exact", &[("size", "500mb")])
        .await
        .unwrap();
    let err = lab
        .try_create(1, 2, "large", &[("size", "501mb")])
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::PermissionDenied, "{err}");
    let err = lab
        .try_create(1, 3, "over", &[("size", "101mb")])
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::QuotaExceeded, "{err}");
    // 300 MB are there since the original: they count.
    assert_eq!(lab.get(2, "old").await.unwrap().capacity.bytes(), 300 << 20);
    let err = lab
        .try_create(2, 4, "over", &[("size", "51mb")])
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::QuotaExceeded, "{err}");
    lab.try_create(2, 5, "fits", &[("size", "50mb")])
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_locked_configuration_stays_locked_and_one_that_is_there_is_not_overwritten_by_chance() {
    let lab = host_of_the_original().await;
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    assert!(lab.get(2, "old").await.is_ok());
    group(&lab.engine, new_group("ours")).await.unwrap();
    let clash = import(original(DEV, "ours", true), None);
    let done = lab.engine.config_change(&root(), &clash, true).await;
    let err = done.unwrap_err();
    assert!(
        err.to_string().contains("vmgroup ours is there twice"),
        "{err}"
    );
    let verb = import(original(DEV, "dev", false), None);
    let done = configure(&lab.engine, &verb).await.unwrap();
    assert!(
        done.lines.contains(
            &"vmgroup _DEFAULT is removed; VMs of no other vmgroup lose access".to_owned()
        ),
        "{done:?}"
    );
    assert!(lab.engine.config_backup().await.unwrap().contains("ours"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        lab.get(2, "old").await.unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    let again = lab
        .engine
        .config_change(&root(), &verb, true)
        .await
        .unwrap();
    assert_eq!(
        again.lines,
        Vec::<String>::new(),
        "a second import changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_be_are_replaced_and_told_and_without_a_place_nothing_is_made() {
    let lab = host_of_the_original().await;
    let err = configure(&lab.engine, &import(original(DEV, "dev", true), None)).await;
    let err = err.unwrap_err();
    assert!(
        matches!(err, Error::Config(_)) && err.to_string().contains("--datastore"),
        "{err}"
    );
    let verb = import(original(DEV, "../../x", true), Some("ds"));
    let done = configure(&lab.engine, &verb).await.unwrap();
    assert!(
        done.lines
            .iter()
            .any(|l| l.starts_with("vmgroup group-3277ad45 is added")),
        "{done:?}"
    );
    assert!(
        done.warnings.iter().any(|w| w.contains("../../x")),
        "{done:?}"
    );
}
