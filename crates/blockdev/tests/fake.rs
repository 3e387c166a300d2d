//! The fake keeps the promises of the real thing.
#![allow(clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_blockdev::fake::{FakeContent, FakeDevices};
use vdvs_blockdev::{
    Birth, DeviceError, Devices, Health, Locator, MountOptions, Probe, Wanted, clone_uuid,
};
use vdvs_domain::{Capacity, FsType, Layout, VolumeId};

const BUDGET: Duration = Duration::from_secs(1);
const UUID: Uuid = Uuid::from_u128(5);
const ID: VolumeId = VolumeId::new(Uuid::from_u128(6));

fn place() -> Locator {
    Locator::Path("/dev/x".into())
}

#[tokio::test(start_paused = true)]
async fn a_disk_plugged_in_late_is_found_before_the_deadline() {
    let devices = FakeDevices::new();
    let wanted = Wanted {
        locator: place(),
        size: Capacity::DEFAULT,
        disk_uuid: None,
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let plug = async {
        sleep(Duration::from_secs(3)).await;
        devices.plug(&place(), Capacity::DEFAULT, FakeContent::Blank)
    };
    let (found, plugged) = tokio::join!(devices.find(&wanted, deadline), plug);
    assert_eq!(found.unwrap(), plugged);
}

#[tokio::test]
async fn only_a_blank_disk_or_its_own_attempt_is_formatted() {
    let ext4 = FsType::ext4();
    for content in [
        FakeContent::Foreign("bytes".into()),
        FakeContent::Unreadable("EIO".into()),
    ] {
        let devices = FakeDevices::new();
        let device = devices.plug(&place(), Capacity::DEFAULT, content);
        let result = devices.format(&device, &ext4, UUID, "x", BUDGET).await;
        assert!(
            matches!(result, Err(DeviceError::FormatRefused { .. })),
            "{result:?}"
        );
    }
    let devices = FakeDevices::new();
    let device = devices.plug(&place(), Capacity::DEFAULT, FakeContent::Blank);
    devices
        .format(&device, &ext4, UUID, "x", BUDGET)
        .await
        .unwrap();
    devices
        .format(&device, &ext4, UUID, "x", BUDGET)
        .await
        .unwrap();
    let other = devices
        .format(&device, &ext4, Uuid::nil(), "x", BUDGET)
        .await;
    assert!(matches!(other, Err(DeviceError::FormatRefused { .. })));
}

#[tokio::test]
async fn a_mounted_disk_is_in_use_and_a_fenced_one_is_lost() {
    let devices = FakeDevices::new();
    let (at, ext4) = (Path::new("/m"), FsType::ext4());
    let device = devices.plug(&place(), Capacity::DEFAULT, FakeContent::Blank);
    devices
        .format(&device, &ext4, UUID, "x", BUDGET)
        .await
        .unwrap();
    devices
        .mount(&device, &ext4, at, &MountOptions::default())
        .await
        .unwrap();
    assert!(devices.verify_layout(at, ID, Layout::Data).await.is_err());
    devices
        .prepare_data_dir(at, ID, Layout::Data, Birth::default())
        .await
        .unwrap();
    devices.verify_layout(at, ID, Layout::Data).await.unwrap();
    assert!(!devices.exclusively_unused(&device).await.unwrap());
    assert_eq!(devices.healthy(at, &device).await, Health::Alive);
    assert!(devices.change(&place(), |disk| disk.lost = true));
    assert!(matches!(
        devices.healthy(at, &device).await,
        Health::Lost(_)
    ));
    assert!(matches!(devices.probe(&device).await, Probe::Unknown(_)));
    assert!(
        devices
            .exclusively_unused(&device)
            .await
            .unwrap_err()
            .is_gone()
    );
}

#[tokio::test]
async fn a_clone_gets_its_own_uuid_and_marker_once() {
    let ext4 = FsType::ext4();
    let devices = FakeDevices::new();
    let source = VolumeId::new(Uuid::from_u128(9));
    let content = FakeContent::Formatted {
        fstype: ext4.clone(),
        uuid: UUID,
        marker: Some((source, Layout::Data)),
    };
    let device = devices.plug(&place(), Capacity::DEFAULT, content);
    assert!(
        devices
            .give_identity(&device, &ext4, ID, "/mnt/x".as_ref())
            .await
            .unwrap()
    );
    assert!(
        !devices
            .give_identity(&device, &ext4, ID, "/mnt/x".as_ref())
            .await
            .unwrap()
    );
    let at = Path::new("/mnt/x");
    for read_only in [true, false] {
        let options = MountOptions::read_only(read_only);
        devices.mount(&device, &ext4, at, &options).await.unwrap();
        devices.claim_layout(at, ID, Layout::Data).await.unwrap();
        let verified = devices.verify_layout(at, ID, Layout::Data).await;
        assert_eq!(verified.is_err(), read_only);
        devices.unmount(at).await.unwrap();
    }
    assert!(devices.probe(&device).await != Probe::Blank);
    let uuid = clone_uuid(ID);
    assert!(matches!(
        devices.disk(&place()).unwrap().content,
        FakeContent::Formatted { uuid: has, marker: Some((ID, Layout::Data)), .. } if has == uuid
    ));
}
