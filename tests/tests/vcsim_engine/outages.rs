//! Sessions that are lost, connections that break, a hostd that is away for a while.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use vdvs_engine::ports::{Host, Power};
use vdvs_testkit::vcsim::Mode;

use crate::rig::{LONG, Rig, disk, fresh, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_is_made_up_for_in_every_operation() {
    for mode in [Mode::Esx, Mode::Vcenter] {
        let Some(mut rig) = Rig::new(mode).await else {
            return;
        };
        rig.sim.order("forget-sessions").unwrap();
        let view = rig.agent.create(0, "data", &[]).await;
        rig.sim.order("forget-sessions").unwrap();
        let attached = rig.agent.attach(0, "data").await;
        rig.device(0, &view);
        rig.sim.order("forget-sessions").unwrap();
        rig.agent.detach(0, &attached).await;
        assert!(!rig.is_attached(0, &view));
        rig.sim.order("forget-sessions").unwrap();
        rig.agent.try_delete(0, fresh(), "data").await.unwrap();
        assert_eq!(rig.files(&disk(&view)), (false, false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_settled_by_looking() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    for (moment, reconfigures) in [("after", 1), ("before", 2)] {
        let count = |rig: &mut Rig| {
            rig.sim
                .order("count ReconfigVM_Task")
                .unwrap()
                .parse::<u32>()
                .unwrap()
        };
        let before = count(&mut rig);
        rig.sim
            .order(&format!("{moment} ReconfigVM_Task hang-up"))
            .unwrap();
        let attached = rig.agent.attach(0, "data").await;
        rig.device(0, &view);
        assert_eq!(
            count(&mut rig) - before,
            reconfigures,
            "{moment}: sent again only where it had no effect"
        );
        rig.agent.detach(0, &attached).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_while_hostd_is_away() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    rig.sim.kill().unwrap();
    assert_eq!(rig.agent.get(0, "data").await.unwrap().id, view.id);
    assert_eq!(rig.agent.list(0).await, ["data"]);
    // Also when what hostd said of the datastores is old by now: nobody waits for hostd to read a file.
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(7) {
        let asked = Instant::now();
        assert_eq!(rig.agent.get(0, "data").await.unwrap().id, view.id);
        slowest = slowest.max(asked.elapsed());
        yield_now().await;
    }
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let begun = Instant::now();
    let refused = rig
        .agent
        .try_attach(0, fresh(), "data", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(begun.elapsed() < LONG, "an answer and no hanging");
    rig.sim.restart().unwrap();
    until("an attach after hostd came back", async || {
        rig.agent
            .try_attach(0, fresh(), "data", Duration::ZERO)
            .await
            .is_ok()
    })
    .await;
    rig.device(0, &view);
    assert!(!refused.to_string().is_empty());
}

/// Its objects have other references then: what one session said of this host says nothing about another one's lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vcenter_that_restarted_unnoticed_hides_no_datastore() {
    let Some(mut rig) = Rig::new(Mode::Vcenter).await else {
        return;
    };
    rig.agent.create(0, "data", &[]).await;
    // Whoever listens would notice it first.
    rig.agent.deafen();
    // Time itself is what is waited for: so long the list counts that was read last.
    sleep(Duration::from_secs(6)).await;
    rig.sim.kill().unwrap();
    rig.sim.restart().unwrap();
    assert_eq!(rig.agent.list(0).await, ["data"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_events_are_heard_at_once_also_after_hostd_was_away() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let host = rig.agent.opened.host.clone();
    let vm = rig.vm(2);
    let id = rig.agent.vm(2).clone();
    for (to, power) in [("off", Power::Off), ("on", Power::On)] {
        // Once it listens a list is answered from memory until it hears of a change.
        until("a list from memory", async || {
            let before = host.changed(0, Instant::now()).await.unwrap();
            host.known_vms().await.is_ok()
                && host.changed(0, Instant::now()).await.unwrap() == before
        })
        .await;
        let before = host.changed(0, Instant::now()).await.unwrap();
        rig.witness.power(&vm, to).unwrap();
        let heard = host.changed(before, Instant::now() + LONG).await.unwrap();
        assert_ne!(heard, before);
        until("the news", async || {
            let vms = host.known_vms().await.unwrap();
            vms.iter().find(|v| v.id == id).unwrap().power == power
        })
        .await;
        let before = host.changed(0, Instant::now()).await.unwrap();
        rig.sim.kill().unwrap();
        let heard = host.changed(before, Instant::now() + LONG).await.unwrap();
        assert_ne!(
            heard, before,
            "that it hears nothing any more is news as well"
        );
        rig.sim.restart().unwrap();
        let heard = host.changed(heard, Instant::now() + LONG).await.unwrap();
        assert!(heard > before);
        assert_eq!(rig.agent.opened.host.vms().await.unwrap().len(), 3);
    }
}
