//! Two guests that want the same.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vdvs_sim::guest::LinkFault;

use crate::scene::Scene;

#[tokio::test(start_paused = true)]
async fn two_guests_that_each_hold_what_the_other_wants_both_hear_it_and_one_lets_go() {
    let scene = Scene::new(9).await;
    scene.run(0, "left", &["first"]).await.unwrap();
    scene.run(1, "right", &["second"]).await.unwrap();
    let (left, right) = tokio::join!(
        timeout(
            Duration::from_secs(300),
            scene.run(0, "greedy", &["second"])
        ),
        timeout(Duration::from_secs(300), scene.run(1, "greedy", &["first"])),
    );
    let (left, right) = (left.unwrap().unwrap_err(), right.unwrap().unwrap_err());
    assert!(left.contains("vm2"), "{left}");
    assert!(right.contains("vm1"), "{right}");
    let waiting = scene.run(0, "greedy", &["second"]);
    let giving = async {
        sleep(Duration::from_secs(5)).await;
        scene.guests[1].stop("right").await;
    };
    let (got, ()) = tokio::join!(waiting, giving);
    assert_eq!(got, Ok(()), "{}", scene.story());
    scene.well();
    scene.end(&["first", "second"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_unmount_of_a_volume_that_moved_on_changes_nothing() {
    let scene = Scene::new(10).await;
    scene.run(0, "old", &["volume"]).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    scene.guests[0].lose_unmounts(1);
    scene.guests[0].stop("old").await;
    // The reality check lets it go while somebody waits.
    scene.run(1, "new", &["volume"]).await.unwrap_err();
    scene.until("it was never free", |s| s.disks(0) == 0).await;
    scene.run(1, "new", &["volume"]).await.unwrap();
    sleep(Duration::from_secs(200)).await;
    assert!(scene.guests[1].runs("new"), "{}", scene.story());
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_late_request_of_a_dead_plugin_attached_is_given_up_within_a_second() {
    let scene = Scene::new(11).await;
    let guest = &scene.guests[0];
    guest.create("volume", &[]).await.unwrap();
    // More than the plugin asks until it dies.
    guest.link(LinkFault::Late(Duration::from_secs(30)), 40);
    let dying = async {
        sleep(Duration::from_secs(2)).await;
        guest.kill_plugin();
        guest.link_again();
        guest.start_plugin();
    };
    let (started, ()) = tokio::join!(scene.run(0, "old", &["volume"]), dying);
    started.unwrap_err();
    scene.until("it came", |s| s.disks(0) == 1).await;
    // Its plugin looks by itself only when it has run for a minute.
    let begun = Instant::now();
    scene.run(1, "new", &["volume"]).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}\n{}", scene.story());
    scene.end(&["volume"]).await;
}
