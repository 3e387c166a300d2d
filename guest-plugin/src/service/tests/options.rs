//! What a volume was ordered with: mount options, the folder's owner, a source.

use uuid::Uuid;
use vdvs_blockdev::fake::{Call, FakeContent};
use vdvs_blockdev::{DeviceError, clone_uuid};
use vdvs_domain::{FilesystemState, FsType, Layout, VolumeId};

use super::{Guest, none, options, place, text};

const SOURCE: VolumeId = VolumeId::new(Uuid::from_u128(0x500));

/// Calls of these verbs on disks, without their paths.
fn verbs(guest: &Guest, verbs: &[&str]) -> Vec<String> {
    let short = |call: &String| {
        let words = call.split(' ').filter(|word| !word.starts_with('/'));
        words.collect::<Vec<_>>().join(" ")
    };
    let calls = guest.device_calls();
    let calls = calls.iter().map(short);
    calls
        .filter(|call| verbs.iter().any(|verb| call.starts_with(verb)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn mount_options_are_used_at_every_mount_and_survive_a_restart() {
    let mut guest = Guest::new().await;
    let asked = options(&[("mount-options", "noatime,commit=30")]);
    guest.agent.add("v", &asked);
    guest.mount("v", "a").await;
    let mounts = verbs(&guest, &["mount"]);
    // The private mount that lays `data` out is nobody's wish.
    assert_eq!(
        mounts,
        ["mount at ext4 rw", "mount at ext4 rw,noatime,commit=30"]
    );
    guest.set_busy("v", true);
    guest.restart().await;
    guest.volumes().follow();
    guest.pass(130).await;
    let mounts = verbs(&guest, &["mount"]);
    assert!(mounts.len() > 2, "the check mounts again: {mounts:?}");
    assert_eq!(mounts.last().unwrap(), "mount at ext4 rw,noatime,commit=30");
}

#[tokio::test(start_paused = true)]
async fn owner_and_mode_are_given_once_to_the_fresh_folder() {
    let guest = Guest::new().await;
    let asked = options(&[("uid", "999"), ("gid", "2000"), ("mode", "2770")]);
    guest.agent.add("v", &asked);
    guest.mount("v", "a").await;
    guest.unmount("v", "a").await;
    guest.mount("v", "b").await;
    assert_eq!(verbs(&guest, &["prepare"]), ["prepare 999:2000 2770"]);
    guest.agent.add("plain", &none());
    guest.mount("plain", "c").await;
    assert_eq!(verbs(&guest, &["prepare"])[1], "prepare 0:0 0755");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_be_read_is_no_default() {
    for (key, value) in [
        ("uid", "-1"),
        ("gid", "x"),
        ("mode", "98"),
        ("mode", "17777"),
    ] {
        let guest = Guest::new().await;
        guest.agent.add("v", &options(&[(key, value)]));
        let refused = text(guest.volumes().mount("v", "a").await.unwrap_err());
        assert!(
            refused.contains(key) && refused.contains("was not formatted"),
            "{refused}"
        );
        assert!(verbs(&guest, &["format"]).is_empty());
    }
}

/// A copy of another volume, as the host made it.
fn cloned(guest: &Guest, fstype: &str, more: &[(&str, &str)]) {
    let mut all = options(&[("clone-from", "source@vsanDatastore"), ("fstype", fstype)]);
    all.extend(options(more));
    guest.agent.add("copy", &all);
    let uuid = Uuid::from_u128(0x77);
    guest.agent.change("copy", |v| {
        v.filesystem.state = FilesystemState::Ready { uuid }
    });
    let content = FakeContent::Formatted {
        fstype: FsType::new(fstype).unwrap(),
        uuid,
        marker: Some((SOURCE, Layout::Data)),
    };
    guest.agent.set_content("copy", content);
}

#[tokio::test(start_paused = true)]
async fn a_clone_gets_an_identity_before_its_first_mount_and_is_never_formatted() {
    for fstype in ["ext4", "xfs", "btrfs"] {
        let guest = Guest::new().await;
        cloned(&guest, fstype, &[]);
        let id = guest.agent.volume("copy").unwrap().id;
        guest.mount("copy", "a").await;
        let done = verbs(&guest, &["format", "identity", "mount", "claim", "prepare"]);
        let mount = format!("mount at {fstype} rw");
        assert_eq!(done, ["identity", mount.as_str(), "claim"]);
        guest.unmount("copy", "a").await;
        guest.mount("copy", "b").await;
        let place = place(id);
        let FakeContent::Formatted { uuid, marker, .. } =
            guest.devices.disk(&place).unwrap().content
        else {
            panic!("its content is gone");
        };
        assert_eq!(marker, Some((id, Layout::Data)));
        assert_eq!(uuid == clone_uuid(id), fstype != "xfs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_whose_identity_was_cut_short_is_finished_by_the_next_mount() {
    let guest = Guest::new().await;
    cloned(&guest, "btrfs", &[]);
    let io = DeviceError::Busy {
        path: "/dev/x".into(),
    };
    guest.devices.fail_next(Call::Claim, io);
    text(guest.volumes().mount("copy", "a").await.unwrap_err());
    guest.until("let go", |g| g.held("copy").is_none()).await;
    guest.mount("copy", "a").await;
    let done = verbs(&guest, &["identity", "claim"]);
    assert_eq!(done, ["identity", "claim", "claim"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_clone_is_writable_once_where_nobody_sees_it() {
    for fstype in ["ext4", "xfs", "btrfs"] {
        let guest = Guest::new().await;
        cloned(&guest, fstype, &[("access", "read-only")]);
        for id in ["a", "b"] {
            guest.mount("copy", id).await;
            guest.unmount("copy", id).await;
        }
        let attaches: Vec<String> = guest
            .agent
            .calls()
            .into_iter()
            .filter(|call| call.starts_with("attach"))
            .map(|call| call.replace("attach copy@vsanDatastore", "attach"))
            .collect();
        let expected = ["attach ro", "attach", "attach ro", "attach ro"];
        assert_eq!(attaches, expected, "{fstype}");
        assert!(verbs(&guest, &["format"]).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn another_volumes_disk_is_mounted_for_nobody_but_a_clone() {
    let guest = Guest::new().await;
    cloned(&guest, "ext4", &[]);
    guest
        .agent
        .change("copy", |v| drop(v.options.remove("clone-from")));
    let refused = text(guest.volumes().mount("copy", "a").await.unwrap_err());
    assert!(refused.contains("belongs to volume"), "{refused}");
}

/// A volume adopted from the original: its metadata may be missing, and then its record guesses the type.
#[tokio::test(start_paused = true)]
async fn an_adopted_volume_is_mounted_as_what_its_disk_holds_and_whole() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.agent.change("v", |v| {
        v.filesystem.state = FilesystemState::Unknown;
        v.layout = Layout::Root;
    });
    let fstype = FsType::new("xfs").unwrap();
    let content = FakeContent::Formatted {
        fstype,
        uuid: Uuid::from_u128(3),
        marker: None,
    };
    guest.agent.set_content("v", content);
    let at = guest.mount("v", "a").await;
    assert!(!at.ends_with("data"), "{at:?}");
    let calls = guest.device_calls();
    let mounts: Vec<_> = calls.iter().filter(|c| c.starts_with("mount ")).collect();
    assert!(mounts.iter().all(|c| c.contains(" xfs ")), "{mounts:?}");
    assert!(!calls.iter().any(|c| c.starts_with("format")), "{calls:?}");
    guest.unmount("v", "a").await;
}
