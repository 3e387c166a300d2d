//! Volumes that the host took away, and mounts that are not what the book says.

use nix::errno::Errno;
use tokio::time::{Duration, Instant, sleep};
use vdvs_blockdev::fake::Call;
use vdvs_blockdev::{Device, DeviceError, Devices, MountOptions};
use vdvs_domain::FsType;

use super::{Guest, none, place, text};
use crate::agent::{Agent, Notice};
use crate::journal::Stage;

fn lost(guest: &Guest, name: &str) -> bool {
    guest
        .held(name)
        .is_some_and(|held| held.stage == Stage::Lost)
}

fn superseded(guest: &Guest, name: &str) -> Notice {
    let held = guest.held(name).unwrap();
    Notice::Superseded {
        volume: held.volume,
        epoch: held.epoch,
    }
}

#[tokio::test(start_paused = true)]
async fn a_fence_touches_one_volume_and_the_others_do_not_notice() {
    let guest = Guest::new().await;
    guest.agent.add("fenced", &none());
    guest.agent.add("other", &none());
    guest.volumes().follow();
    guest.mount("fenced", "a").await;
    guest.mount("other", "b").await;
    let calls = guest.device_calls().len();
    let notice = superseded(&guest, "fenced");
    guest.agent.give_to("fenced", "swarm02");
    guest.agent.forget_calls();
    guest.agent.notify(notice).await;
    guest.until("lost", |g| lost(g, "fenced")).await;
    let done = guest.device_calls().split_off(calls);
    assert!(
        done.len() == 1 && done[0].starts_with("unmount lazily"),
        "{done:?}"
    );
    assert!(guest.is_mounted("other").await);
    guest.unmount("fenced", "a").await;
    guest.pass(61).await;
    let told = guest.agent.calls();
    assert!(
        told.iter().all(|call| !call.starts_with("detach")),
        "{told:?}"
    );
    assert!(guest.held("fenced").is_none() && guest.is_mounted("other").await);
}

#[tokio::test(start_paused = true)]
async fn what_was_superseded_while_the_agent_was_away_is_lost_when_it_is_back() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    guest.agent.set_away(true);
    guest.agent.give_to("v", "swarm02");
    guest.pass(5).await;
    guest.agent.set_away(false);
    guest.until("lost", |g| lost(g, "v")).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_notice_about_an_attachment_that_a_newer_one_replaced_takes_nothing_away() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    let late = superseded(&guest, "v");
    guest.unmount("v", "a").await;
    guest.devices.delay(Call::Mount, Duration::from_secs(3));
    let volumes = guest.volumes();
    let (mounted, ()) = tokio::join!(volumes.mount("v", "b"), async {
        guest.pass(1).await;
        guest.agent.notify(late).await;
    });
    mounted.unwrap();
    guest.pass(5).await;
    assert!(guest.is_mounted("v").await && !lost(&guest, "v"));
}

#[tokio::test(start_paused = true)]
async fn a_mount_on_a_dead_disk_notices_and_attaches_anew() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "old").await;
    let before = guest.held("v").unwrap().epoch;
    // Fenced, and nobody said so: the host's word was lost.
    let dead = guest
        .devices
        .change(&place(volume.id), |disk| disk.lost = true);
    assert!(dead);
    guest.agent.give_to("v", "swarm02");
    guest.agent.release("v");
    guest.mount("v", "new").await;
    assert!(guest.held("v").unwrap().epoch > before);
    guest.unmount("v", "old").await;
    assert!(
        guest.is_mounted("v").await,
        "the old container's Unmount is late"
    );
    guest.unmount("v", "new").await;
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_disk_is_unmounted_lazily_when_its_last_user_goes() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest
        .devices
        .change(&place(volume.id), |disk| disk.lost = true);
    let gone = DeviceError::Gone {
        path: "/dev/x".into(),
        os: Errno::EIO.into(),
    };
    guest.devices.fail_next(Call::Unmount, gone);
    let begun = Instant::now();
    guest.unmount("v", "a").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(!guest.is_mounted("v").await && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_volume_whose_unmounts_never_come_is_forgotten_after_a_day() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "leaked").await;
    let notice = superseded(&guest, "v");
    guest.agent.give_to("v", "swarm02");
    guest.agent.notify(notice).await;
    guest.until("lost", |g| lost(g, "v")).await;
    guest.pass(3600).await;
    assert!(lost(&guest, "v"));
    guest.clock.advance(24 * 3_600_000);
    guest.pass(61).await;
    assert!(guest.held("v").is_none());
    guest.unmount("v", "leaked").await;
}

/// Its disk failed while the host could not reach the datastore; the record still says that this VM has it.
async fn lost_and_still_attached(guest: &Guest) {
    let volume = guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "leaked").await;
    let here = place(volume.id);
    assert!(guest.devices.change(&here, |disk| disk.lost = true));
    guest.pass(61).await;
    assert!(lost(guest, "v") && guest.is_attached_here("v"));
    assert!(guest.devices.change(&here, |disk| disk.lost = false));
}

#[tokio::test(start_paused = true)]
async fn a_lost_volume_that_nobody_uses_is_let_go_as_any_leaked_one() {
    let guest = Guest::new().await;
    lost_and_still_attached(&guest).await;
    for _ in 0..4 {
        guest.pass(61).await;
    }
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
    guest.unmount("v", "leaked").await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_volume_that_a_container_still_uses_stays_until_it_ends() {
    let guest = Guest::new().await;
    lost_and_still_attached(&guest).await;
    guest.set_busy("v", true);
    for _ in 0..5 {
        guest.pass(61).await;
    }
    assert!(lost(&guest, "v") && guest.is_attached_here("v"));
    guest.set_busy("v", false);
    guest.pass(61).await;
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_attachment_newer_than_the_lost_one_that_nobody_heard_of_goes_too() {
    let guest = Guest::new().await;
    lost_and_still_attached(&guest).await;
    guest.agent.release("v");
    // The answer to this attach was lost with the plugin that asked.
    let agent: &dyn Agent = guest.agent.as_ref();
    let end = Instant::now() + Duration::from_secs(5);
    agent.attach("v", false, 0, end).await.unwrap();
    for _ in 0..4 {
        guest.pass(61).await;
    }
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_vanished_is_made_again_if_used_and_let_go_if_not() {
    let guest = Guest::new().await;
    guest.volumes().follow();
    for name in ["used", "unused"] {
        let volume = guest.agent.add(name, &none());
        guest.mount(name, "a").await;
        guest.set_busy(name, name == "used");
        let target = format!("/mnt/vdvs/{}", volume.id);
        guest.devices.unmount(target.as_ref()).await.unwrap();
    }
    for _ in 0..5 {
        guest.pass(61).await;
    }
    assert!(guest.is_mounted("used").await);
    assert_eq!(guest.held("used").unwrap().counts.len(), 1);
    assert!(!guest.is_attached_here("unused") && guest.held("unused").is_none());
}

#[tokio::test(start_paused = true)]
async fn what_came_or_left_while_the_table_of_mounts_was_read_is_no_difference() {
    let guest = Guest::new().await;
    for name in ["comes", "leaves", "comes back"] {
        guest.agent.add(name, &none());
    }
    guest.mount("leaves", "a").await;
    guest.mount("comes back", "a").await;
    let volumes = guest.volumes();
    guest.devices.late_table(Duration::from_secs(2));
    tokio::join!(volumes.put_mounts_right(), async {
        sleep(Duration::from_millis(1)).await;
        guest.devices.late_table(Duration::ZERO);
        guest.mount("comes", "b").await;
        guest.unmount("leaves", "a").await;
        guest.unmount("comes back", "a").await;
        guest.mount("comes back", "b").await;
    });
    assert!(guest.held("leaves").is_none(), "{:?}", guest.held("leaves"));
    for name in ["comes", "comes back"] {
        let held = guest.held(name).unwrap();
        assert_eq!(held.stage, Stage::Mounted, "{name}");
        guest.unmount(name, "b").await;
        assert!(!guest.is_attached_here(name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_nobody_remembers_is_taken_over_and_let_go() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    let device = guest.held("v").unwrap().device.unwrap();
    guest.unmount("v", "a").await;
    // A person mounts the disk where we would.
    let agent: &dyn Agent = guest.agent.as_ref();
    let end = Instant::now() + Duration::from_secs(5);
    agent.attach("v", false, 0, end).await.unwrap();
    let mut device: Device = (&device).into();
    device.major_minor = guest.devices.disk(&place(volume.id)).unwrap().major_minor;
    let target = format!("/mnt/vdvs/{}", volume.id);
    let options = MountOptions::default();
    let ext4 = FsType::ext4();
    let devices = &guest.devices;
    let mounted = devices.mount(&device, &ext4, target.as_ref(), &options);
    mounted.await.unwrap();
    for _ in 0..5 {
        guest.pass(61).await;
    }
    assert!(!guest.is_mounted("v").await && !guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_stopped_is_named_and_not_handed_out() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest.devices.damage(
        &place(volume.id),
        "the file system turned read-only after an error",
    );
    let refused = text(guest.volumes().mount("v", "b").await.unwrap_err());
    assert!(
        refused.contains("read-only after an error") && refused.contains("Stop its containers"),
        "{refused}"
    );
    guest.unmount("v", "a").await;
    guest.mount("v", "b").await;
}
