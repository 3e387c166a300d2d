//! Restarts, leaked counts, inventories, notices.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::task::TaskTracker;
use vdvs_blockdev::fake::Call;
use vdvs_blockdev::{Devices, MountOptions};
use vdvs_domain::{Epoch, FsType};

use super::{Guest, none, place};
use crate::agent::{Agent, Notice};
use crate::docker::Server;
use crate::journal::Stage;

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_for_running_containers() {
    let mut guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.set_busy("v", true);
    let before = guest.held("v");
    let calls = guest.device_calls().len();
    guest.restart().await;
    guest.volumes().follow();
    guest.until("inventory", |g| g.held("v") == before).await;
    assert_eq!(guest.device_calls().len(), calls);
    guest.set_busy("v", false);
    guest.unmount("v", "b").await;
    assert!(!guest.is_attached_here("v"));
}

/// The reality check had unmounted it to ask the kernel when the plugin died.
#[tokio::test(start_paused = true)]
async fn what_containers_use_is_mounted_again_after_a_death_in_the_reality_check() {
    let mut guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.set_busy("v", true);
    let before = guest.held("v").unwrap();
    let target = guest.volumes().target(volume.id);
    guest.devices.unmount(&target).await.unwrap();
    guest.restart().await;
    guest.volumes().follow();
    let again = |g: &Guest| g.held("v").is_some_and(|held| held.stage == Stage::Mounted);
    guest.until("mounted again", again).await;
    assert!(guest.is_mounted("v").await && guest.is_attached_here("v"));
    assert_eq!(guest.held("v").unwrap().counts, before.counts);
    guest.set_busy("v", false);
    guest.unmount("v", "b").await;
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_vm_left_over_attachments_go() {
    let mut guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.devices.power_cut();
    guest.restart().await;
    guest.volumes().follow();
    let gone = |g: &Guest| !g.is_attached_here("v") && g.held("v").is_none();
    guest.until("let go", gone).await;
}

/// Nothing of before counts in a VM that was started anew, from the first request on.
#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_vm_a_volume_is_removed_at_once() {
    let mut guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.devices.power_cut();
    guest.restart().await;
    guest.volumes().follow();
    guest.volumes().remove("v").await.unwrap();
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

/// Docker has asked before anything serves: the socket is there, and its request waits in it.
#[tokio::test(start_paused = true)]
async fn what_was_left_of_before_is_asked_about_before_the_first_request_is_served() {
    let mut guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.devices.power_cut();
    guest.restart().await;
    let socket = guest.folder.path().join("vsphere.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut docker = UnixStream::connect(&socket).await.unwrap();
    let body = "{\"Name\":\"v\"}";
    let request = format!(
        "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    docker.write_all(request.as_bytes()).await.unwrap();
    let server = Server::new(guest.volumes().clone());
    let serving = TaskTracker::new().spawn(server.serve(listener, guest.stop.clone()));
    let mut reply = String::new();
    docker.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(guest.agent.volume("v").is_none());
    guest.stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_removed_while_the_plugin_was_down_frees_its_volume_within_four_minutes() {
    let mut guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.set_busy("v", true);
    guest.pass(20).await;
    guest.set_busy("v", false);
    guest.restart().await;
    guest.volumes().follow();
    for _ in 0..24 {
        guest.pass(10).await;
    }
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_reality_check_keeps_what_is_in_use_and_believes_young_counts() {
    let guest = Guest::new().await;
    guest.agent.add("used", &none());
    guest.agent.add("young", &none());
    guest.volumes().follow();
    guest.mount("used", "a").await;
    guest.set_busy("used", true);
    for _ in 0..10 {
        guest.pass(61).await;
    }
    guest.mount("young", "b").await;
    guest.pass(60).await;
    for name in ["used", "young"] {
        assert!(guest.is_mounted(name).await, "{name}");
        assert_eq!(guest.held(name).unwrap().counts.len(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_make_counts_believed_for_ever() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "leaked").await;
    guest.clock.set_back(3_600_000);
    for _ in 0..4 {
        guest.pass(61).await;
    }
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn another_vm_that_waits_makes_the_plugin_look_at_once() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "leaked").await;
    guest.clock.advance(121_000);
    guest.volumes().follow();
    let wanted = Notice::Wanted {
        volume: volume.id,
        by_vm: "swarm02".into(),
    };
    let begun = Instant::now();
    guest.agent.notify(wanted).await;
    guest.until("released", |g| !g.is_attached_here("v")).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_left_over_attachment_is_given_up_within_a_second_when_another_vm_waits() {
    let guest = Guest::new().await;
    guest.agent.add("other", &none());
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest.set_busy("v", true);
    guest.unmount("v", "a").await;
    guest.volumes().follow();
    guest.mount("other", "b").await;
    guest.set_busy("v", false);
    // A disk that hangs keeps nobody else's notice waiting.
    guest.devices.delay(Call::Unmount, Duration::from_secs(200));
    guest.clock.advance(121_000);
    let wanted = |name: &str| Notice::Wanted {
        volume: guest.agent.volume(name).unwrap().id,
        by_vm: "swarm02".into(),
    };
    let begun = Instant::now();
    guest.agent.notify(wanted("other")).await;
    guest.agent.notify(wanted("v")).await;
    guest.until("released", |g| !g.is_attached_here("v")).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(guest.is_attached_here("other"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_journal_is_rebuilt_from_the_mount_table_and_the_agent() {
    let mut guest = Guest::new().await;
    guest.agent.add("used", &none());
    guest.agent.add("free", &none());
    guest.mount("used", "a").await;
    guest.mount("free", "b").await;
    guest.set_busy("used", true);
    fs::write(guest.folder.path().join("held"), b"\xff\xffgarbage").unwrap();
    guest.restart().await;
    assert!(guest.folder.path().join("held.damaged-1").exists());
    guest.volumes().follow();
    guest
        .until("epochs known", |g| {
            ["used", "free"]
                .iter()
                .all(|n| g.held(n).is_some_and(|h| h.epoch == Epoch::new(1)))
        })
        .await;
    for _ in 0..4 {
        guest.pass(61).await;
    }
    assert!(guest.is_mounted("used").await);
    assert!(!guest.is_attached_here("free"));
}

#[tokio::test(start_paused = true)]
async fn an_attachment_nobody_knows_of_goes_unless_it_is_in_use() {
    let guest = Guest::new().await;
    guest.agent.add("stray", &none());
    let agent: &dyn Agent = guest.agent.as_ref();
    let end = Instant::now() + Duration::from_secs(5);
    agent.attach("stray", false, 0, end).await.unwrap();
    guest.set_busy("stray", true);
    guest.volumes().follow();
    guest.pass(70).await;
    assert!(guest.is_attached_here("stray"));
    guest.set_busy("stray", false);
    guest.pass(61).await;
    assert!(!guest.is_attached_here("stray"));
}

/// A request that arrives when its plugin is dead is carried out, and nobody has asked for an inventory since.
#[tokio::test(start_paused = true)]
async fn an_attachment_nobody_knows_of_is_given_up_within_a_second_when_another_vm_waits() {
    let guest = Guest::new().await;
    let stray = guest.agent.add("stray", &none());
    guest.volumes().follow();
    guest.pass(1).await;
    let agent: &dyn Agent = guest.agent.as_ref();
    let end = Instant::now() + Duration::from_secs(5);
    agent.attach("stray", false, 0, end).await.unwrap();
    guest.set_busy("stray", true);
    let wanted = || Notice::Wanted {
        volume: stray.id,
        by_vm: "swarm02".into(),
    };
    guest.agent.notify(wanted()).await;
    guest.pass(10).await;
    assert!(guest.is_attached_here("stray"), "it is in use");
    guest.set_busy("stray", false);
    let begun = Instant::now();
    guest.agent.notify(wanted()).await;
    guest
        .until("released", |g| !g.is_attached_here("stray"))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_left_is_not_taken_over_from_an_answer_given_before() {
    let guest = Guest::new().await;
    guest.agent.add("vol1", &none());
    guest.mount("vol1", "c1").await;
    guest.volumes().follow();
    guest.pass(1).await;
    guest.agent.hold_inventories(true);
    guest.pass(61).await;
    guest.agent.forget_calls();
    guest.unmount("vol1", "c1").await;
    guest.agent.hold_inventories(false);
    guest.pass(61).await;
    assert_eq!(guest.agent.calls(), ["detach vol1"]);
    // What came after it is shown by the next answer, and goes.
    let agent: &dyn Agent = guest.agent.as_ref();
    let end = Instant::now() + Duration::from_secs(5);
    agent.attach("vol1", false, 0, end).await.unwrap();
    guest.pass(61).await;
    assert!(!guest.is_attached_here("vol1"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_jobs_and_for_no_answer_to_an_inventory() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    guest.agent.hold_inventories(true);
    guest.pass(61).await;
    guest.devices.delay(Call::Unmount, Duration::from_secs(3));
    let volumes = guest.volumes().clone();
    let leaving = TaskTracker::new().spawn(async move { volumes.unmount("v", "a").await });
    guest.pass(1).await;
    let begun = Instant::now();
    guest.stop.cancel();
    let finished = timeout(Duration::from_secs(8), guest.volumes().finish()).await;
    assert!(finished.is_ok(), "it waits for the host");
    assert_eq!(begun.elapsed().as_secs(), 2);
    leaving.await.unwrap().unwrap();
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn a_superseded_volume_is_lost_and_its_late_unmounts_are_acknowledged_here() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "old").await;
    let epoch = guest.held("v").unwrap().epoch;
    guest.agent.give_to("v", "swarm02");
    let superseded = Notice::Superseded {
        volume: volume.id,
        epoch,
    };
    guest.agent.notify(superseded).await;
    guest
        .until("lost", |g| {
            g.held("v").is_some_and(|h| h.stage == Stage::Lost)
        })
        .await;
    assert!(!guest.is_mounted("v").await);
    guest.agent.forget_calls();
    guest.unmount("v", "old").await;
    assert!(guest.held("v").is_none() && guest.agent.calls().is_empty());
    let vm = guest.agent.volume("v").unwrap().attachment.unwrap().vm;
    assert_eq!(vm, "swarm02");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_lost_can_come_back_and_the_old_containers_unmount_does_not_touch_it() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "old").await;
    guest.agent.give_to("v", "swarm02");
    guest.pass(61).await;
    assert_eq!(guest.held("v").unwrap().stage, Stage::Lost);
    guest.agent.release("v");
    guest.mount("v", "new").await;
    guest.unmount("v", "old").await;
    assert!(guest.is_mounted("v").await);
    guest.unmount("v", "new").await;
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_notice_about_an_older_attachment_changes_nothing() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    let epoch = Epoch::new(0);
    let stale = Notice::Superseded {
        volume: volume.id,
        epoch,
    };
    guest.agent.notify(stale).await;
    guest.pass(5).await;
    assert!(guest.is_mounted("v").await);
}

#[tokio::test(start_paused = true)]
async fn a_file_system_in_the_making_is_put_away_at_the_start() {
    let mut guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    let device = guest.held("v").unwrap().device.unwrap();
    let staging = format!("/mnt/vdvs/.new-{}", volume.id);
    let fs = FsType::ext4();
    let device = (&device).into();
    guest
        .devices
        .mount(&device, &fs, staging.as_ref(), &MountOptions::default())
        .await
        .unwrap();
    guest.restart().await;
    let table = guest.devices.mounts().await.unwrap();
    assert!(
        table
            .iter()
            .all(|mount| !mount.at.to_string_lossy().contains(".new-"))
    );
    assert!(guest.is_mounted("v").await);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_only_fails_is_lost_without_the_hosts_word() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "old").await;
    guest.agent.set_away(true);
    let place = place(volume.id);
    assert!(guest.devices.change(&place, |disk| disk.lost = true));
    guest.pass(61).await;
    assert_eq!(guest.held("v").unwrap().stage, Stage::Lost);
    guest.unmount("v", "old").await;
    assert!(guest.held("v").is_none());
}
