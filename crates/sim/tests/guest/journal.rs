//! The plugin killed, its journal torn, its disk full.

use std::time::Duration;

use tokio::time::sleep;
use vdvs_sim::guest::JournalFault;

use crate::scene::Scene;

#[tokio::test(start_paused = true)]
async fn a_journal_torn_at_any_write_costs_no_volume_and_leaks_none() {
    for write in 0..60 {
        let scene = Scene::new(write).await;
        let guest = &scene.guests[0];
        let before = guest.journal_writes();
        guest.journal(JournalFault::Tear(write));
        for round in 0..2 {
            let task = format!("task-{round}");
            // The plugin dies somewhere in here and is started again as its unit would.
            let restarted = async {
                loop {
                    sleep(Duration::from_millis(300)).await;
                    guest.start_plugin();
                }
            };
            let work = async {
                while let Err(why) = scene.run(0, &task, &["volume"]).await {
                    assert!(!why.contains("blank"), "{why}");
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(Duration::from_secs(10)).await;
                guest.stop(&task).await;
            };
            tokio::select! {
                biased;
                () = work => {}
                () = restarted => {}
            }
        }
        scene.well();
        if write % 4 == 0 {
            scene.end(&["volume"]).await;
        }
        if guest.journal_writes() - before < write {
            assert!(write > 8, "the journal was written more often than that");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_guest_disk_refuses_mounts_and_recovers_without_a_restart() {
    let scene = Scene::new(3).await;
    let guest = &scene.guests[0];
    guest.create("volume", &[]).await.unwrap();
    guest.journal(JournalFault::Full(true));
    let refused = scene.run(0, "task", &["volume"]).await.unwrap_err();
    assert!(refused.contains("make room"), "{refused}");
    guest.journal(JournalFault::Full(false));
    scene.run(0, "task", &["volume"]).await.unwrap();
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_leaves_running_containers_alone() {
    let scene = Scene::new(4).await;
    let guest = &scene.guests[0];
    scene.run(0, "task", &["volume"]).await.unwrap();
    guest.kill_plugin();
    guest.journal(JournalFault::Damage);
    guest.start_plugin();
    sleep(Duration::from_secs(600)).await;
    assert!(guest.runs("task"), "{}", scene.story());
    assert_eq!(scene.disks(0), 1);
    scene.well();
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_killed_at_any_moment_of_a_run_changes_nothing_for_the_container() {
    for at in 0..12_u64 {
        let scene = Scene::new(at).await;
        let guest = &scene.guests[0];
        let kill = async {
            sleep(Duration::from_micros(at * 2900)).await;
            guest.kill_plugin();
            sleep(Duration::from_secs(at % 4)).await;
            guest.start_plugin();
        };
        let run = scene.run(0, "task", &["volume"]);
        let (started, ()) = tokio::join!(run, kill);
        sleep(Duration::from_secs(130)).await;
        assert_eq!(guest.runs("task"), started.is_ok(), "{}", scene.story());
        scene.well();
        scene.end(&["volume"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_unmount_is_found_by_looking_at_the_device() {
    let scene = Scene::new(5).await;
    let guest = &scene.guests[0];
    scene.run(0, "task", &["volume"]).await.unwrap();
    guest.lose_unmounts(2);
    sleep(Duration::from_secs(10)).await;
    guest.stop("task").await;
    guest.lose_unmounts(0);
    assert_eq!(scene.disks(0), 1, "nobody has said so yet");
    scene
        .until("the disk never left", |s| s.disks(0) == 0)
        .await;
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_dockerd_sends_no_unmounts_and_a_nested_id_ends_nothing() {
    let scene = Scene::new(6).await;
    let guest = &scene.guests[0];
    scene.run(0, "task", &["volume"]).await.unwrap();
    guest.copy_from("task").await;
    sleep(Duration::from_secs(300)).await;
    assert!(guest.runs("task"), "{}", scene.story());
    guest.kill_dockerd();
    sleep(Duration::from_secs(3)).await;
    guest.start_dockerd();
    scene
        .until("the disk never left", |s| s.disks(0) == 0)
        .await;
    scene.end(&["volume"]).await;
}
