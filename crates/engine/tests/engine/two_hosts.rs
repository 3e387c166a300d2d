//! Two hosts over one datastore: claims, the fence, takeover from a host that died, came back, or was cut off.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use vdvs_domain::{Epoch, ErrorKind};
use vdvs_engine::api::{Notice, Outcome, VolumeView};
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::hosts::{FENCE, Two};
use crate::support::{WAIT, call, disk, rand_request, until};

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

fn is_within(took: Duration, low_ms: u64, high_ms: u64) -> bool {
    (low_ms..=high_ms).contains(&u64::try_from(took.as_millis()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_owners_guest_hears_of_a_claim_and_the_claimant_gets_what_it_lets_go() {
    let two = Two::new();
    let (made, held) = two.held(&[]).await;
    let mut notices = two.near.engine.watch(&two.near.vms[0]);
    let leave = async {
        let notice = notices.recv().await.unwrap();
        let told = Notice::Wanted {
            volume: made.id,
            by_vm: "far1".into(),
        };
        assert_eq!(notice, told);
        sleep(Duration::from_secs(3)).await;
        let words = "VM far1 on host esx02 waits for it since 3 s; it stays with VM vm1 until that lets it go";
        for view in [two.near.get(1, "db").await.unwrap(), two.far_view().await] {
            assert_eq!(view.waiting.as_deref(), Some(words));
            assert_eq!(
                (view.epoch, view.host_name.as_str()),
                (Epoch::new(1), "esx01")
            );
        }
        assert_eq!(two.near.detach(1, &held).await, Outcome::Changed(()));
        Instant::now()
    };
    let (got, left_at) = tokio::join!(two.attach_far(1, WAIT), leave);
    assert_eq!(got.unwrap().epoch, Epoch::new(2));
    assert!(
        left_at.elapsed() <= Duration::from_millis(300),
        "{:?}",
        left_at.elapsed()
    );
    assert_eq!(two.writers(&made), ["far1"]);
    assert!(two.record().await["claim"].is_null());
    assert_eq!(two.far_view().await.waiting, None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_learns_who_has_it_where_and_since_when_and_leaves_no_claim() {
    let two = Two::new();
    let (made, _) = two.held(&[]).await;
    let (answer, took) = timed(two.attach_far(1, Duration::from_secs(60))).await;
    let err = answer.unwrap_err();
    assert_eq!((err.kind(), took.as_secs()), (ErrorKind::Timeout, 60));
    let text = err.to_string();
    let named = "after 60000 ms of waiting, volume db@ds is still attached to VM vm1 on host esx01 since 2026-01-01 00:00:00 UTC";
    assert!(text.starts_with(named), "{text}");
    sleep(Duration::from_millis(100)).await;
    assert!(
        two.record().await["claim"].is_null(),
        "withdrawn, not left to end by itself"
    );
    assert_eq!(two.writers(&made), ["vm1"]);
    assert_eq!(two.audit(two.near.host, "fence"), []);
    let at_once = two.attach_far(1, Duration::ZERO).await.unwrap_err();
    assert_eq!(at_once.kind(), ErrorKind::InUse);
    assert!(
        at_once.to_string().contains("VM vm1 on host esx01"),
        "{at_once}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_live_owner_that_does_not_let_go_is_fenced_after_its_time() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    two.near
        .world
        .use_disk(&two.near.vms[0], &disk(&made), true);
    let mut notices = two.near.engine.watch(&two.near.vms[0]);
    let halfway = async {
        sleep(Duration::from_secs(10)).await;
        let words = "VM far1 on host esx02 waits for it since 10 s; it is taken from VM vm1 in 5 s";
        assert_eq!(two.far_view().await.waiting.as_deref(), Some(words));
        assert_eq!(two.writers(&made), ["vm1"]);
    };
    let ((got, took), ()) = tokio::join!(timed(two.attach_far(1, WAIT)), halfway);
    assert_eq!(got.unwrap().epoch, Epoch::new(2));
    assert!(is_within(took, 15_000, 16_500), "{took:?}");
    assert_eq!(two.writers(&made), ["far1"]);
    assert!(two.near.world.devices(&two.near.vms[0]).is_empty());
    assert!(matches!(
        notices.recv().await.unwrap(),
        Notice::Wanted { .. }
    ));
    let lost = Notice::Superseded {
        volume: made.id,
        epoch: Epoch::new(1),
    };
    assert_eq!(notices.recv().await.unwrap(), lost);
    let [row] = two.audit(two.near.host, "fence").try_into().unwrap();
    let detail = "taken from the live VM for VM far1 on host esx02, which waited 15.0 s: was attached to VM vm1 on host esx01 since 2026-01-01 00:00:00 UTC, epoch 1";
    assert_eq!(
        (row.who.as_str(), row.object.as_str(), row.detail.as_str()),
        ("reconciler", "db@ds", detail)
    );
    let late = two
        .near
        .try_detach(1, rand_request(), made.id, Epoch::new(1));
    assert_eq!(
        late.await.unwrap(),
        Outcome::Unchanged(()),
        "a late detach is a no-op"
    );
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn fence_after_is_the_volumes_own() {
    let two = Two::new();
    two.held(&[("failover", "fence"), ("fence-after", "40s")])
        .await;
    let (got, took) = timed(two.attach_far(1, WAIT)).await;
    got.unwrap();
    assert!(is_within(took, 40_000, 41_500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lets_go_in_time_is_never_fenced() {
    let two = Two::new();
    let (made, held) = two.held(FENCE).await;
    let leave = async {
        sleep(Duration::from_millis(14_900)).await;
        two.near.detach(1, &held).await
    };
    let (got, left) = tokio::join!(two.attach_far(1, WAIT), leave);
    assert_eq!(
        (got.unwrap().epoch, left),
        (Epoch::new(2), Outcome::Changed(()))
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(two.audit(two.near.host, "fence"), []);
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_waits_is_never_fenced_however_long() {
    let two = Two::new();
    let (made, _) = two.held(&[]).await;
    for _ in 0..2 {
        two.attach_far(1, WAIT).await.unwrap_err();
    }
    assert_eq!(two.writers(&made), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn on_one_host_the_fence_needs_no_claim() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let watch = async {
        sleep(Duration::from_secs(5)).await;
        assert!(two.record().await["claim"].is_null());
    };
    let attach = two.near.try_attach(2, rand_request(), "db", WAIT);
    let ((got, took), ()) = tokio::join!(timed(attach), watch);
    got.unwrap();
    assert!(is_within(took, 15_000, 16_500), "{took:?}");
    assert_eq!(two.writers(&made), ["vm2"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_owners_own_agent_fences() {
    let mut two = Two::new();
    let (made, _) = two.held(FENCE).await;
    two.kill_near();
    let err = two.attach_far(1, WAIT).await.unwrap_err();
    assert!(
        err.to_string().contains("is the agent there running?"),
        "{err}"
    );
    assert_eq!(two.writers(&made), ["vm1"]);
    sleep(Duration::from_secs(20)).await;
    two.start_near();
    let (got, took) = timed(two.attach_far(1, WAIT)).await;
    got.unwrap();
    assert!(
        is_within(took, 15_000, 17_000),
        "a new agent begins anew: {took:?}"
    );
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_owner_is_not_fenced_and_has_its_time_when_it_resumes() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let vm = &two.near.vms[0];
    two.near.world.power(vm, Power::Suspended);
    let err = two
        .attach_far(1, Duration::from_secs(40))
        .await
        .unwrap_err();
    assert!(err.to_string().contains("which is suspended"), "{err}");
    let near = two
        .near
        .try_attach(2, rand_request(), "db", Duration::from_secs(40));
    let err = near.await.unwrap_err();
    assert!(err.to_string().contains("which is suspended"), "{err}");
    assert_eq!(two.audit(two.near.host, "fence"), []);
    assert!(two.near.world.power(vm, Power::On));
    let sleep_again = async {
        sleep(Duration::from_secs(10)).await;
        two.near.world.power(vm, Power::Suspended);
        sleep(Duration::from_secs(20)).await;
        assert!(two.near.world.power(vm, Power::On));
    };
    let ((got, took), ()) = tokio::join!(timed(two.attach_far(1, WAIT)), sleep_again);
    got.unwrap();
    assert!(is_within(took, 45_000, 46_600), "{took:?}");
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_claimant_that_died_fences_nobody_and_its_claim_goes() {
    let mut two = Two::new();
    let (made, _) = two
        .held(&[("failover", "fence"), ("fence-after", "20")])
        .await;
    {
        let mut attach = pin!(two.attach_far(1, WAIT));
        tokio::select! {
            _ = &mut attach => panic!("attached"),
            () = sleep(Duration::from_secs(9)) => {}
        }
        two.far_session.crash();
    }
    two.kill_far();
    assert!(!two.record().await["claim"].is_null());
    sleep(Duration::from_secs(60)).await;
    assert!(two.record().await["claim"].is_null());
    assert_eq!(two.audit(two.near.host, "fence"), []);
    assert_eq!(two.writers(&made), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_claimant_gets_it_and_the_others_wait_for_it() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let second = async {
        sleep(Duration::from_secs(3)).await;
        // On the owner's own host, where it would be woken first.
        two.near
            .try_attach(2, rand_request(), "db", Duration::from_secs(25))
            .await
    };
    let (first, second) = tokio::join!(two.attach_far(1, WAIT), second);
    assert_eq!(first.unwrap().epoch, Epoch::new(2));
    assert_eq!(two.writers(&made), ["far1"]);
    let text = second.unwrap_err().to_string();
    assert!(text.contains("VM far1 on host esx02"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_claimant_whose_budget_is_as_short_as_the_fence_gets_it_with_its_next_try() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let short = Duration::from_secs(15);
    let mut tries = 0;
    loop {
        tries += 1;
        if two.attach_far(1, short).await.is_ok() {
            break;
        }
        sleep(Duration::from_secs(5)).await;
    }
    assert!(tries <= 2, "{tries}");
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_at_any_moment_disturbs_nothing_the_owner_does() {
    for steps in 0..60 {
        let two = Two::new();
        let (made, held) = two.held(&[]).await;
        let claim = async {
            for _ in 0..steps {
                yield_now().await;
            }
            two.attach_far(1, WAIT).await
        };
        let own = async {
            let again = two
                .near
                .try_attach(1, rand_request(), "db", Duration::ZERO)
                .await;
            let caller = two.near.caller(1);
            let epoch = again.as_ref().map_or(held.epoch, |a| a.epoch);
            let call = call(rand_request());
            let format = two
                .near
                .engine
                .begin_format(&caller, &call, made.id, epoch)
                .await;
            let left = two.near.try_detach(1, rand_request(), made.id, epoch).await;
            (again.map(drop), format.map(drop), left)
        };
        let (got, own) = tokio::join!(claim, own);
        assert_eq!(
            own,
            (Ok(()), Ok(()), Ok(Outcome::Changed(()))),
            "after {steps} steps"
        );
        got.unwrap();
        assert_eq!(two.writers(&made), ["far1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_hosts_volume_is_taken_when_its_lock_lapsed_and_the_old_vm_boots_without_it() {
    let mut two = Two::new();
    let (made, held) = two.held(&[]).await;
    two.near.world.set_lapse(Duration::from_secs(8));
    two.crash_near();
    let (got, took) = timed(two.attach_far(1, WAIT)).await;
    assert_eq!(got.unwrap().epoch, Epoch::new(2));
    assert!(
        is_within(took, 13_000, 13_800),
        "8 s of lock and 5 s of proof: {took:?}"
    );
    assert_eq!(two.writers(&made), ["far1"]);
    let vm = two.near.vms[0].clone();
    assert!(
        !two.near.world.power(&vm, Power::On),
        "the lock refuses it while the disk is configured"
    );
    two.start_near();
    until("the old configuration is clean", async || {
        two.near.world.devices(&vm).is_empty()
    })
    .await;
    assert!(two.near.world.power(&vm, Power::On));
    two.expect_taken_out("foreign-disk: taken out of VM vm1, which is off");
    let late = two.near.detach(1, &held).await;
    assert_eq!(late, Outcome::Unchanged(()));
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_booted_with_a_disk_that_is_nobodys_gives_it_back() {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    two.crash_near();
    let got = two.attach_far(1, WAIT).await.unwrap();
    two.detach_far(1, &got).await;
    let vm = two.near.vms[0].clone();
    assert!(
        two.near.world.power(&vm, Power::On),
        "nobody holds the lock"
    );
    let refused = two
        .attach_far(2, Duration::from_secs(20))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("VM vm1"), "{refused}");
    two.start_near();
    two.attach_far(2, Duration::from_secs(2)).await.unwrap();
    two.expect_taken_out("foreign-disk: taken out of VM vm1, which runs");
    assert_eq!(two.writers(&made), ["far2"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_cut_off_loses_its_volumes_and_gives_up_the_dead_disk_when_it_is_back() {
    let two = Two::new();
    let (made, _) = two.held(&[]).await;
    let vm = &two.near.vms[0];
    two.near.world.set_lapse(Duration::from_secs(12));
    two.near.world.cut_off(two.near.host, true);
    let (got, took) = timed(two.attach_far(1, WAIT)).await;
    got.unwrap();
    assert!(is_within(took, 17_000, 17_800), "{took:?}");
    assert_eq!(two.writers(&made), ["far1"]);
    two.near.world.cut_off(two.near.host, false);
    until("the dead disk is gone", async || {
        two.near.world.devices(vm).is_empty()
    })
    .await;
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_suspended_on_a_dead_host_keeps_its_volume() {
    let mut two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let vm = two.near.vms[0].clone();
    two.near.world.power(&vm, Power::Suspended);
    two.crash_near();
    let err = two.attach_far(1, WAIT).await.unwrap_err();
    assert!(err.to_string().contains("which is suspended"), "{err}");
    two.start_near();
    assert!(
        two.near.world.power(&vm, Power::On),
        "it resumes with its disk"
    );
    assert_eq!(two.writers(&made), ["vm1"]);
    assert_eq!(two.record().await["epoch"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_moved_is_served_by_its_new_host() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let vm = &two.near.vms[0];
    two.near.world.register(vm, two.far_host);
    until("the record follows", async || {
        two.far_view().await.host_name == "esx02"
    })
    .await;
    let row = two.audit(two.far_host, "follow").remove(0);
    assert!(
        row.detail
            .starts_with("moved-owner: was VM vm1 on host esx01"),
        "{}",
        row.detail
    );
    let (got, took) = timed(two.near.try_attach(2, rand_request(), "db", WAIT)).await;
    got.unwrap();
    assert!(
        is_within(took, 15_000, 16_500),
        "fenced by the new host: {took:?}"
    );
    assert_eq!(two.audit(two.far_host, "fence").len(), 1);
    assert_eq!(two.writers(&made), ["vm2"]);
}

/// High availability started `vm1`, which has the volume `db`, on the other host when its own died.
async fn started_elsewhere() -> (Two, VolumeView) {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    let vm = two.near.vms[0].clone();
    two.crash_near();
    two.near.world.register(&vm, two.far_host);
    assert!(two.near.world.power(&vm, Power::On));
    until("the record follows", async || {
        two.far_view().await.host_name == "esx02"
    })
    .await;
    (two, made)
}

/// Its first host comes back with its old registration.
#[tokio::test(start_paused = true)]
async fn a_vm_registered_twice_is_not_released_by_the_host_where_it_is_off() {
    let (mut two, made) = started_elsewhere().await;
    let vm = two.near.vms[0].clone();
    two.near.world.leave_registered(&vm, two.near.host);
    two.start_near();
    sleep(Duration::from_secs(70)).await;
    assert_eq!(two.writers(&made), ["vm1"]);
    let view = two.far_view().await;
    assert_eq!(
        (view.ownership.name(), view.epoch),
        ("attached", Epoch::new(1))
    );
}

/// As above, but suspended: nobody holds the lock of its disk then.
#[tokio::test(start_paused = true)]
async fn a_vm_registered_twice_and_suspended_keeps_its_volume() {
    let (mut two, made) = started_elsewhere().await;
    let vm = two.near.vms[0].clone();
    assert!(two.near.world.power(&vm, Power::Suspended));
    two.near.world.leave_registered(&vm, two.near.host);
    two.start_near();
    sleep(Duration::from_secs(70)).await;
    let view = two.far_view().await;
    assert_eq!(
        (view.ownership.name(), view.epoch),
        ("attached", Epoch::new(1))
    );
    assert!(
        two.near.world.power(&vm, Power::On),
        "it resumes with its disk"
    );
    assert_eq!(two.writers(&made), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn two_idle_hosts_are_silent_and_cheap() {
    let two = Two::new();
    two.held(FENCE).await;
    sleep(Duration::from_secs(5)).await;
    let before = (
        two.near.session.calls(),
        two.near.world.audit(two.near.host).len(),
    );
    sleep(Duration::from_secs(600)).await;
    let calls = two.near.session.calls() - before.0;
    // Two look-ups a second for the one volume, twenty sweeps, and as many looks at what to tell the other host.
    assert!(calls < 600 * 4 + 20 * 80, "{calls}");
    assert_eq!(two.near.world.audit(two.near.host).len(), before.1);
    assert_eq!(two.far_view().await.ownership.name(), "attached");
}

#[tokio::test(start_paused = true)]
async fn what_another_host_has_under_way_is_no_complaint_of_this_one() {
    let mut found = false;
    for at in 0..60 {
        let two = Two::new();
        let made = two.near.create(1, "db").await;
        two.near.session.plan(at, Fault::Crash(When::Before));
        tokio::select! {
            biased;
            _ = two.near.try_attach(1, 1, "db", Duration::ZERO) => continue,
            () = two.near.session.died() => {}
        }
        if two.far_record().await["operation"]["kind"] != "attach" {
            continue;
        }
        found = true;
        sleep(Duration::from_secs(100)).await;
        let status = two.far.admin_status().await.unwrap();
        assert_eq!(status.warnings, Vec::<String>::new());
        assert_eq!(
            two.far_record().await["operation"]["kind"],
            "attach",
            "it is that host's to end"
        );
        assert!(two.writers(&made).len() <= 1);
    }
    assert!(found, "the moment was not found");
}
