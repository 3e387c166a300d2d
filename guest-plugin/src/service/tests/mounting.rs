//! Mount, Unmount, Create and Remove.

use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::task::TaskTracker;
use vdvs_blockdev::fake::{Call, FakeContent};
use vdvs_blockdev::{DeviceError, Devices};
use vdvs_domain::{ErrorKind, FilesystemState, FsType};

use super::{Guest, none, options, place, text};

#[tokio::test(start_paused = true)]
async fn create_allocates_only_and_the_first_mount_formats() {
    let guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    assert_eq!(guest.agent.calls(), ["create v"]);
    assert!(guest.device_calls().is_empty());

    let path = guest.mount("v", "a").await;
    let id = guest.agent.volume("v").unwrap().id;
    assert_eq!(path.to_str().unwrap(), format!("/mnt/vdvs/{id}/data"));
    assert_eq!(
        guest.agent.calls(),
        [
            "create v",
            "get v",
            "attach v@vsanDatastore",
            "begin_format v",
            "finish_format v"
        ]
    );
    let order: Vec<String> = guest
        .device_calls()
        .iter()
        .map(|call| call.split(' ').next().unwrap().to_owned())
        .collect();
    let mkfs = order.iter().position(|c| c == "format").unwrap();
    let layout = order.iter().position(|c| c == "prepare").unwrap();
    assert!(mkfs < layout, "{order:?}");
    assert!(guest.is_mounted("v").await);

    guest.unmount("v", "a").await;
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
    guest.agent.forget_calls();
    guest.mount("v", "b").await;
    assert_eq!(guest.agent.calls(), ["get v", "attach v@vsanDatastore"]);
}

#[tokio::test(start_paused = true)]
async fn docker_cp_nests_one_id_and_a_crashed_dockerd_repeats_it() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.mount("v", "b").await;
    guest.unmount("v", "b").await;
    assert!(guest.is_mounted("v").await, "the container runs on");
    guest.unmount("v", "b").await;
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn two_containers_and_two_spellings_are_one_volume() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    let one = guest.mount("v", "a").await;
    let two = guest.mount("v@VSANDATASTORE", "b").await;
    assert_eq!(one, two);
    guest.unmount("v@vsanDatastore", "a").await;
    assert!(guest.is_mounted("v").await);
    guest.unmount("v", "b").await;
    assert!(!guest.is_attached_here("v"));
}

#[tokio::test(start_paused = true)]
async fn concurrent_mounts_of_one_volume_join() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    let volumes = guest.volumes();
    let (a, b, c) = tokio::join!(
        volumes.mount("v", "a"),
        volumes.mount("v", "b"),
        volumes.mount("v@vsanDatastore", "c")
    );
    assert!(a.is_ok() && a == b && b == c);
    let attaches = guest
        .agent
        .calls()
        .iter()
        .filter(|c| c.starts_with("attach"))
        .count();
    assert_eq!(attaches, 1);
    assert_eq!(guest.held("v").unwrap().counts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_mount_keeps_nobody_else_waiting() {
    let guest = Guest::new().await;
    guest.agent.add("mine", &none());
    guest.agent.add("theirs", &none());
    guest.agent.give_to("theirs", "swarm02");
    guest.mount("mine", "m").await;
    let volumes = guest.volumes().clone();
    let waiting = TaskTracker::new().spawn(async move { volumes.mount("theirs", "t").await });
    sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    guest.volumes().get("theirs").await.unwrap();
    guest.volumes().list().await.unwrap();
    guest.unmount("theirs", "late").await;
    guest.unmount("mine", "m").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    guest.agent.release("theirs");
    waiting.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_vm_ends_before_docker_gives_up_and_names_it() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.agent.give_to("v", "swarm02");
    let begun = Instant::now();
    let refused = text(guest.volumes().mount("v", "a").await.unwrap_err());
    assert!(refused.contains("swarm02"), "{refused}");
    let waited = begun.elapsed().as_secs();
    assert!((95..=105).contains(&waited), "{waited}");
    assert!(guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_goes_while_waiting_nothing_stays_attached() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.agent.give_to("v", "swarm02");
    let gone = timeout(Duration::from_secs(5), guest.volumes().mount("v", "a")).await;
    assert!(gone.is_err());
    guest.agent.release("v");
    guest.pass(30).await;
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_goes_during_mkfs_the_format_is_finished_and_the_retry_joins_it() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.devices.delay(Call::Format, Duration::from_secs(200));
    let late = text(guest.volumes().mount("v", "a").await.unwrap_err());
    assert!(late.contains("Try again"), "{late}");
    let gone = timeout(Duration::from_secs(30), guest.volumes().mount("v", "b")).await;
    assert!(gone.is_err());
    guest.mount("v", "c").await;
    let formats = guest
        .device_calls()
        .iter()
        .filter(|c| c.starts_with("format"))
        .count();
    assert_eq!(formats, 1);
    assert_eq!(guest.held("v").unwrap().counts.len(), 1);
    assert!(matches!(
        guest.agent.volume("v").unwrap().filesystem.state,
        FilesystemState::Ready { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_takes_down_only_what_no_other_mount_waits_for() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.devices.delay(Call::Mount, Duration::from_secs(10));
    let volumes = guest.volumes();
    let (gone, stays) = tokio::join!(
        timeout(Duration::from_secs(5), volumes.mount("v", "a")),
        volumes.mount("v", "b")
    );
    assert!(gone.is_err() && stays.is_ok());
    guest.pass(5).await;
    assert!(guest.is_mounted("v").await);
    let held = guest.held("v").unwrap();
    assert_eq!(held.counts.keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_mount_leaves_nothing_behind() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    let busy = DeviceError::Busy {
        path: "/dev/x".into(),
    };
    guest.devices.fail_next(Call::Mount, busy);
    text(guest.volumes().mount("v", "a").await.unwrap_err());
    guest
        .until("detached", |g| {
            !g.is_attached_here("v") && g.held("v").is_none()
        })
        .await;
    guest.mount("v", "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_holds_something_else_is_neither_formatted_nor_mounted() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    let uuid = volume.id.uuid();
    guest.agent.change("v", |v| {
        v.filesystem.state = FilesystemState::Ready { uuid }
    });
    guest.unmount("v", "a").await;
    let refuse = async |content: FakeContent, state: FilesystemState| {
        guest.agent.change("v", |v| v.filesystem.state = state);
        guest.agent.set_content("v", content);
        let before = guest
            .device_calls()
            .iter()
            .filter(|c| c.starts_with("format"))
            .count();
        let refused = text(guest.volumes().mount("v", "a").await.unwrap_err());
        let after = guest
            .device_calls()
            .iter()
            .filter(|c| c.starts_with("format"))
            .count();
        assert_eq!(before, after, "{refused}");
        guest.until("let go", |g| g.held("v").is_none()).await;
    };
    refuse(
        FakeContent::Foreign("an LVM volume".into()),
        FilesystemState::Never,
    )
    .await;
    refuse(FakeContent::Blank, FilesystemState::Ready { uuid }).await;
    refuse(FakeContent::Blank, FilesystemState::Unknown).await;
    refuse(
        FakeContent::Unreadable("EIO".into()),
        FilesystemState::Never,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_volume_is_formatted_writable_and_mounted_read_only() {
    let guest = Guest::new().await;
    guest.agent.add("v", &options(&[("access", "read-only")]));
    guest.mount("v", "a").await;
    let attaches: Vec<String> = guest
        .agent
        .calls()
        .into_iter()
        .filter(|c| c.starts_with("attach") || c.starts_with("detach"))
        .collect();
    assert_eq!(
        attaches,
        [
            "attach v@vsanDatastore",
            "detach v",
            "attach v@vsanDatastore ro"
        ]
    );
    let table = guest.devices.mounts().await.unwrap();
    assert!(table.iter().all(|mount| mount.read_only()) && table.len() == 1);
    guest.unmount("v", "a").await;
    guest.agent.forget_calls();
    guest.mount("v", "b").await;
    assert_eq!(guest.agent.calls(), ["get v", "attach v@vsanDatastore ro"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_unmount_of_somebody_elses_mount_changes_nothing() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.unmount("v", "never-seen").await;
    guest.mount("v", "a").await;
    guest.unmount("v", "never-seen").await;
    guest.unmount("unknown", "a").await;
    guest.unmount("../odd", "a").await;
    assert!(guest.is_mounted("v").await);
}

#[tokio::test(start_paused = true)]
async fn a_device_in_use_elsewhere_stays_attached_until_it_is_free() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    guest.set_busy("v", true);
    guest.unmount("v", "a").await;
    assert!(guest.is_attached_here("v"));
    guest.pass(200).await;
    assert!(guest.is_attached_here("v"));
    guest.set_busy("v", false);
    guest.pass(61).await;
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_a_dying_container_keeps_for_a_moment_leaves_with_the_unmount() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest.set_busy("v", true);
    let ends = async {
        sleep(Duration::from_secs(2)).await;
        guest.set_busy("v", false);
    };
    tokio::join!(guest.unmount("v", "a"), ends);
    // No reality check runs here: the Unmount itself saw it through.
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_is_busy_for_a_moment_is_unmounted_by_the_same_request() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    let busy = DeviceError::Busy {
        path: "/dev/x".into(),
    };
    guest.devices.fail_next(Call::Unmount, busy);
    guest.unmount("v", "a").await;
    assert!(!guest.is_attached_here("v") && guest.held("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unmount_without_the_agent_is_answered_at_once_and_detached_later() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.volumes().follow();
    guest.mount("v", "a").await;
    guest.agent.set_away(true);
    let begun = Instant::now();
    guest.unmount("v", "a").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(!guest.is_mounted("v").await && guest.is_attached_here("v"));
    guest.agent.set_away(false);
    guest.until("detached", |g| !g.is_attached_here("v")).await;
}

#[tokio::test(start_paused = true)]
async fn a_mounted_volume_serves_another_container_without_the_agent() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest.agent.set_away(true);
    guest.mount("v", "b").await;
    assert_eq!(guest.held("v").unwrap().counts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_create_without_the_agent_says_what_to_do() {
    let guest = Guest::new().await;
    guest.agent.set_away(true);
    let refused = text(guest.volumes().create("v", &none()).await.unwrap_err());
    assert!(
        refused.ends_with(": nothing changed, run `vdvs-plugin doctor`"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_system_nobody_can_make_is_refused_at_create() {
    let guest = Guest::new().await;
    guest
        .devices
        .offer(vec![FsType::ext4(), FsType::new("xfs").unwrap()]);
    let refused = guest
        .volumes()
        .create("v", &options(&[("fstype", "btrfs")]))
        .await;
    assert_eq!(
        text(refused.unwrap_err()),
        "Not found mkfs for btrfs\nSupported filesystems found: ext4, xfs"
    );
    let odd = guest
        .volumes()
        .create("v", &options(&[("fstype", "../sh")]))
        .await;
    assert!(text(odd.unwrap_err()).starts_with("Not found mkfs for ../sh\n"));
    let near = guest
        .volumes()
        .create("v", &options(&[("fstype", "ext5")]))
        .await;
    assert!(text(near.unwrap_err()).ends_with("\nDid you mean 'ext4'?"));
    assert!(guest.agent.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_agents_refusals_reach_the_person() {
    let guest = Guest::new().await;
    guest.agent.fail_next(
        "create",
        ErrorKind::AlreadyExists,
        "exists: size: asked 2GB, has 1GB",
    );
    let refused = guest.volumes().create("v", &none()).await;
    assert_eq!(
        text(refused.unwrap_err()),
        "exists: size: asked 2GB, has 1GB"
    );
}

#[tokio::test(start_paused = true)]
async fn remove_is_refused_while_mounted_here_by_any_spelling() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v@vsanDatastore", "a").await;
    guest.mount("v", "b").await;
    for name in ["v", "v@vsanDatastore"] {
        let refused = text(guest.volumes().remove(name).await.unwrap_err());
        assert_eq!(
            refused,
            format!("Remove failure - volume is still mounted.  volume={name}, refcount=2")
        );
    }
    guest.unmount("v", "a").await;
    guest.unmount("v", "b").await;
    guest.volumes().remove("v").await.unwrap();
    assert!(guest.agent.volume("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn remove_is_refused_while_attached_anywhere_in_the_agents_words() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.agent.give_to("v", "swarm02");
    let refused = text(guest.volumes().remove("v").await.unwrap_err());
    assert_eq!(
        refused,
        "Failed to remove volume v@vsanDatastore, in use by VM = swarm02."
    );
}

#[tokio::test(start_paused = true)]
async fn remove_lets_a_left_over_attachment_go_first() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    guest.set_busy("v", true);
    guest.unmount("v", "a").await;
    assert!(guest.is_attached_here("v"));
    guest.set_busy("v", false);
    guest.volumes().remove("v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_vanished_is_made_again() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    let target = format!("/mnt/vdvs/{}", volume.id);
    guest.devices.unmount(target.as_ref()).await.unwrap();
    guest.mount("v", "b").await;
    assert!(guest.is_mounted("v").await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_disk_ends_in_the_probe_and_is_not_formatted() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.devices.delay(Call::Find, Duration::from_secs(1));
    let devices = guest.devices.clone();
    let pull = async {
        guest.until("attached", |g| g.is_attached_here("v")).await;
        devices.change(&place(volume.id), |disk| disk.lost = true);
    };
    let (mounted, ()) = tokio::join!(guest.volumes().mount("v", "a"), pull);
    text(mounted.unwrap_err());
    assert!(!guest.device_calls().iter().any(|c| c.starts_with("format")));
    assert!(
        !guest
            .agent
            .calls()
            .iter()
            .any(|c| c.starts_with("begin_format"))
    );
}
