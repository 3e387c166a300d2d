//! The first use of a datastore by two hosts at once.

use std::time::Duration;

use vdvs_domain::Error;
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, Outcome, Settings, VolumeView};
use vdvs_host_sim::Fault;

use crate::support::{Lab, call, ds, given, rand_request, volume};

async fn make(engine: &Engine, caller: &Caller, name: &str) -> Result<Outcome<VolumeView>, Error> {
    let call = call(rand_request());
    engine
        .create(caller, &call, &volume(name), &given(&[]))
        .await
}

/// Both hosts make their first volume at once, each held up at one of its calls, the far one longer. `true`: they met
/// at the document.
async fn met(near_at: u64, far_at: u64) -> bool {
    let lab = Lab::new();
    let host = lab.world.add_host("esx02");
    let session = lab.world.session(host);
    let other = Engine::new(session.ports(), Settings::default());
    let vm = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(vm.instance_uuid, &vm.config_path)
        .await
        .unwrap();
    let near = lab.caller(1);
    let text = format!("held up at call {near_at} and call {far_at}");
    lab.session
        .plan(near_at, Fault::Slow(Duration::from_millis(100)));
    session.plan(far_at, Fault::Slow(Duration::from_millis(200)));
    let here = make(&lab.engine, &near, "near");
    let (here, there) = tokio::join!(here, make(&other, &far, "far"));
    for made in [here, there] {
        made.unwrap_or_else(|why| panic!("{text}: {why}"));
    }
    // One configuration, for both and for whoever comes later.
    let third = lab.world.session(lab.world.add_host("esx03"));
    let third = Engine::new(third.ports(), Settings::default());
    let mut configs = Vec::new();
    for engine in [&lab.engine, &other, &third] {
        let shown = engine.config_show().await.unwrap();
        let of = shown.datastores.iter().find(|d| d.datastore == ds("ds"));
        let of = of.unwrap();
        assert_eq!(of.state, "governed", "{text}: {}", of.problem);
        configs.push(of.config);
    }
    configs.dedup();
    assert_eq!(configs.len(), 1, "{text}");
    make(&lab.engine, &near, "later").await.unwrap();
    let files = lab.world.files(&ds("ds"));
    !files.contains(&"dockvols/.vdvs/config.1".to_owned())
}

/// The calls of an undisturbed first use in which a file is written, as numbers from 0.
async fn writes() -> Vec<u64> {
    let lab = Lab::new();
    lab.session.begin_trace();
    lab.create(1, "near").await;
    let calls = (0..).zip(lab.session.end_trace());
    let writes = calls.filter(|(_, call)| call.verb == "write");
    writes.map(|(at, _)| at).collect()
}

/// The document and the marker are written first; whoever meets the other one there makes some calls more.
#[tokio::test(start_paused = true)]
async fn two_hosts_that_meet_anywhere_in_the_first_use_of_a_datastore_both_get_their_volume() {
    let writes = writes().await;
    let mut meetings = 0;
    for near_at in writes.into_iter().take(2) {
        for far_at in near_at.saturating_sub(4)..near_at + 24 {
            meetings += u32::from(met(near_at, far_at).await);
        }
    }
    assert!(meetings > 0, "they never met");
}

/// Three VMs of one host at once, one of them held up at one of its calls. What the others make meanwhile is no
/// configuration that was followed and is gone.
#[tokio::test(start_paused = true)]
async fn requests_of_one_host_that_use_a_datastore_first_at_once_all_get_their_volume() {
    for (first, second) in [("a@ds", "b@ds"), ("a@ds", "b@ds2"), ("a@ds2", "b@ds")] {
        for at in 0..60 {
            let lab = Lab::with_datastores(&["ds", "ds2"]);
            let (one, two, three) = (lab.caller(1), lab.caller(2), lab.caller(3));
            lab.session
                .plan(at, Fault::Slow(Duration::from_millis(100)));
            let made = tokio::join!(
                make(&lab.engine, &one, first),
                make(&lab.engine, &two, second),
                make(&lab.engine, &three, "c@ds"),
            );
            for made in [made.0, made.1, made.2] {
                made.unwrap_or_else(|why| panic!("{first} {second}, held up at call {at}: {why}"));
            }
            assert!(lab.session.calls() > at, "nobody was held up at call {at}");
        }
    }
}
