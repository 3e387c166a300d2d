//! Power cuts, suspensions, snapshots.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use vdvs_engine::ports::Power;

use crate::scene::{LONG, Scene};

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_another_vm_reads_every_block_that_was_flushed() {
    for torn in 0..6 {
        let scene = Scene::new(torn).await;
        scene.run(0, "writer", &["volume"]).await.unwrap();
        sleep(Duration::from_millis(20_000 + torn * 137)).await;
        scene.cut(0, torn);
        scene.run(1, "reader", &["volume"]).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        scene.well();
        assert_eq!(scene.disks(0), 0);
        scene.boot(0);
        scene.end(&["volume"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_moment_of_the_first_mount_is_repeated_and_formats_nothing_of_worth() {
    for at in 0..16 {
        let scene = Scene::new(at).await;
        let begun = scene.run(0, "first", &["volume"]);
        // The steps take no simulated time but the way to the agent.
        let cut = timeout(Duration::from_micros(at * 1700), begun).await;
        scene.cut(0, at);
        sleep(Duration::from_secs(1)).await;
        scene.boot(0);
        sleep(Duration::from_secs(30)).await;
        scene.well();
        scene.end(&["volume"]).await;
        drop(cut);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_vm_keeps_its_volume_and_goes_on_with_it() {
    let scene = Scene::new(1).await;
    scene.run(0, "writer", &["volume"]).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    scene.guests[0].suspend();
    scene.world.power(scene.vm(0), Power::Suspended);
    let refused = scene.run(1, "other", &["volume"]).await.unwrap_err();
    assert!(refused.contains("vm1"), "{refused}");
    assert!(scene.world.power(scene.vm(0), Power::On));
    scene.guests[0].resume();
    sleep(Duration::from_secs(300)).await;
    assert!(scene.guests[0].runs("writer"), "{}", scene.story());
    scene.well();
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_goes_back_to_a_snapshot_neither_writes_nor_formats_what_another_has_since() {
    for formatted in [false, true] {
        let scene = Scene::new(2).await;
        scene.guests[0].create("volume", &[]).await.unwrap();
        if formatted {
            scene.run(0, "writer", &["volume"]).await.unwrap();
        }
        sleep(Duration::from_secs(20)).await;
        let then = scene.guests[0].snapshot();
        scene.cut(0, 1);
        scene.run(1, "next", &["volume"]).await.unwrap();
        scene.guests[0].revert(&then);
        scene.boot(0);
        // What its journal says is old; what its dockerd is told to run has to wait.
        let refused = scene.run(0, "again", &["volume"]).await.unwrap_err();
        assert!(refused.contains("vm2"), "{refused}");
        sleep(LONG).await;
        assert!(scene.guests[1].runs("next"), "{}", scene.story());
        assert_eq!((scene.disks(0), scene.disks(1)), (0, 1));
        scene.well();
        scene.end(&["volume"]).await;
    }
}
