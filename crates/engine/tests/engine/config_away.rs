//! The configuration and the hosts that cannot follow it: home lost, host away, document lost. Closed rather than open.

use std::time::Duration;

use tokio::join;
use tokio::time::{advance, sleep};
use vdvs_domain::ErrorKind;
use vdvs_engine::Engine;
use vdvs_host_sim::Fault;

use crate::config::{
    DAY, assert_denied, configure, create, group, init, lock, new_group, problem, rm_group,
};
use crate::support::{Lab, ds};

#[tokio::test(start_paused = true)]
async fn a_host_that_loses_the_home_uses_its_copy_for_a_day_and_no_longer() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "a@ds").await;
    lab.create(1, "b@ds2").await;
    lab.get(1, "b@ds2").await.unwrap();
    lab.world.reach(lab.host, &ds("ds"), false);
    sleep(Duration::from_secs(3600)).await;
    assert!(lab.get(1, "b@ds2").await.is_ok(), "its copy says so");
    let err = group(&lab.engine, new_group("team")).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    sleep(DAY).await;
    let err = lab.get(1, "b@ds2").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured, "{err}");
    let problem = problem(&lab.engine, "ds2").await;
    assert!(problem.contains("too long ago"), "{problem}");
    lab.world.reach(lab.host, &ds("ds"), true);
    assert!(
        lab.get(1, "b@ds2").await.is_ok(),
        "it follows again by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn two_requests_of_one_host_that_use_two_datastores_first_do_not_doubt_each_other() {
    for later in 0..40 {
        let lab = Lab::with_datastores(&["ds", "ds2"]);
        lab.session
            .plan(later, Fault::Slow(Duration::from_millis(500)));
        let (one, two) = (lab.caller(1), lab.caller(2));
        let (one, two) = join!(
            create(&lab.engine, &one, "one@ds"),
            create(&lab.engine, &two, "two@ds2")
        );
        one.unwrap_or_else(|why| panic!("call {later}: {why}"));
        two.unwrap_or_else(|why| panic!("call {later}: {why}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_is_never_open_where_it_was_locked_meanwhile() {
    for (away, forgets) in [(DAY / 24, true), (7 * DAY, true), (7 * DAY, false)] {
        let lab = Lab::with_datastores(&["ds", "ds2"]);
        let (host, _) = lab.second_host();
        let far = lab.world.add_vm(host, "far", &ds("ds2"));
        let session = lab.world.session(host);
        let other = Engine::new(session.ports(), Default::default());
        let caller = other
            .caller(far.instance_uuid, &far.config_path)
            .await
            .unwrap();
        configure(&lab.engine, &init("ds", false)).await.unwrap();
        configure(&lab.engine, &init("ds2", false)).await.unwrap();
        other.list(&caller).await.unwrap();
        session.crash();
        lock(&lab).await;
        if forgets {
            lab.world.forget_store(host);
        }
        advance(away).await;
        // It starts before the home is there.
        lab.world.reach(host, &ds("ds"), false);
        let session = lab.world.session(host);
        let other = Engine::new(session.ports(), Default::default());
        let answer = create(&other, &caller, "x@ds2").await;
        assert_denied(answer, ErrorKind::NotConfigured);
        lab.world.reach(host, &ds("ds"), true);
        let answer = create(&other, &caller, "x@ds2").await;
        assert_denied(answer, ErrorKind::PermissionDenied);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_by_every_host_within_a_second() {
    let lab = Lab::new();
    let (host, other) = lab.second_host();
    let far = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(far.instance_uuid, &far.config_path)
        .await
        .unwrap();
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    other.list(&far).await.unwrap();
    group(&lab.engine, new_group("team")).await.unwrap();
    group(&lab.engine, rm_group("_DEFAULT")).await.unwrap();
    advance(Duration::from_secs(1)).await;
    assert_denied(create(&other, &far, "x").await, ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn a_lost_document_is_made_anew_from_the_copy_or_closed_and_never_open() {
    for forgets in [false, true] {
        let mut lab = Lab::new();
        configure(&lab.engine, &init("ds", false)).await.unwrap();
        lock(&lab).await;
        assert_denied(
            create(&lab.engine, &lab.caller(1), "x").await,
            ErrorKind::PermissionDenied,
        );
        let files = lab.world.files(&ds("ds"));
        for slot in files.iter().filter(|f| f.contains(".vdvs/config.")) {
            lab.world.put_file(&ds("ds"), slot, b"torn");
        }
        if forgets {
            lab.world.forget_store(lab.host);
        }
        lab.restart();
        let err = configure(&lab.engine, &init("ds", false))
            .await
            .unwrap_err();
        match forgets {
            true => assert!(
                err.to_string().contains("holds no configuration document"),
                "{err}"
            ),
            false => assert!(
                err.to_string().contains("already initialized")
                    || err.to_string().contains("BrokenLink"),
                "{err}"
            ),
        }
        configure(&lab.engine, &init("ds", true)).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        assert_denied(
            create(&lab.engine, &lab.caller(1), "x").await,
            ErrorKind::PermissionDenied,
        );
        group(&lab.engine, new_group("_DEFAULT")).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        create(&lab.engine, &lab.caller(1), "x").await.unwrap();
    }
}
