//! Requests and replies lost, repeated and late; agents away.

use std::time::Duration;

use tokio::time::sleep;
use vdvs_sim::guest::LinkFault;

use crate::scene::Scene;

#[tokio::test(start_paused = true)]
async fn every_request_lost_repeated_or_late_has_its_effect_once() {
    let faults = [
        LinkFault::LoseRequest,
        LinkFault::LoseReply,
        LinkFault::Duplicate,
        LinkFault::Delay(Duration::from_secs(3)),
    ];
    for fault in faults {
        // Each call of the whole story goes wrong once.
        let scene = Scene::new(7).await;
        let guest = &scene.guests[0];
        for round in 0..3 {
            let task = format!("task-{round}");
            guest.link(fault, 40);
            while scene.run(0, &task, &["volume"]).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
            sleep(Duration::from_secs(7)).await;
            guest.stop(&task).await;
            scene.well();
        }
        scene.end(&["volume"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_no_local_volume_takes_the_place_of_one_that_was_seen() {
    let mut scene = Scene::new(8).await;
    scene.guests[0].create("volume", &[]).await.unwrap();
    scene.kill_agent(0);
    for restart in [false, true] {
        let guest = &scene.guests[0];
        if restart {
            guest.kill_plugin();
            guest.start_plugin();
        }
        let volumes = ["volume".to_owned()];
        let refused = guest.run("task", &volumes, false).await;
        assert!(refused.is_err(), "{}", scene.story());
        assert!(guest.twins().is_empty());
    }
    scene.well();
    scene.start_agent(0);
    scene.end(&["volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_during_a_mount_and_comes_back_finishes_it_once() {
    for at in 0..12_u64 {
        let mut scene = Scene::new(at).await;
        let guest = scene.guests[0].clone();
        let volumes = ["volume".to_owned()];
        let run = guest.run("task", &volumes, true);
        let fate = async {
            sleep(Duration::from_micros(at * 2300)).await;
            scene.kill_agent(0);
            sleep(Duration::from_secs(1)).await;
            scene.start_agent(0);
        };
        let (started, ()) = tokio::join!(run, fate);
        assert_eq!(started, Ok(()), "{}", scene.story());
        scene.end(&["volume"]).await;
    }
}
