//! Attach, detach, takeover, waiting.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::{Access, Epoch, Error, ErrorKind, FilesystemState, Ownership};
use vdvs_engine::Engine;
use vdvs_engine::api::{InventoryItem, Notice, Outcome, Settings};
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::support::{Lab, WAIT, call, call_for, disk, ds, rand_request, root, volume};

#[tokio::test(start_paused = true)]
async fn an_attached_volume_is_in_the_vm_and_in_the_record() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let attached = lab.attach(1, "db").await;
    assert_eq!(attached.epoch, Epoch::new(1));
    assert_eq!(attached.waited, Duration::ZERO);
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
    let view = lab.get(2, "db").await.unwrap();
    let Ownership::Attached { owner } = view.ownership else {
        panic!("{:?}", view.ownership)
    };
    assert_eq!(
        (owner.vm.name.as_str(), view.host_name.as_str()),
        ("vm1", "esx01")
    );
    assert_eq!(owner.locator, Some(attached.locator));
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_first_answer_and_a_new_request_a_new_epoch() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let first = lab.try_attach(1, 1, "db", Duration::ZERO).await.unwrap();
    let retry = lab.try_attach(1, 1, "db", Duration::ZERO).await.unwrap();
    assert_eq!(
        (retry.epoch, retry.locator),
        (first.epoch, first.locator.clone())
    );
    let again = lab.try_attach(1, 2, "db", Duration::ZERO).await.unwrap();
    assert_eq!((again.epoch, again.locator), (Epoch::new(2), first.locator));
    let late = lab
        .try_attach(1, 1, "db", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Superseded);
    let misused = lab
        .try_attach(2, 2, "db", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(misused.kind(), ErrorKind::RequestMismatch);
}

#[tokio::test(start_paused = true)]
async fn a_held_volume_is_refused_naming_the_holder() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let err = lab
        .try_attach(2, 1, "db", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(
        err.to_string()
            .starts_with("Failed to attach volume db@ds, in use by VM = vm1."),
        "{err}"
    );
    let begun = Instant::now();
    let err = lab
        .try_attach(2, 2, "db", Duration::from_secs(10))
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout, "{err}");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_attach_does_not_delay_the_holders_detach_and_gets_the_volume_at_once() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    let mut notices = lab.engine.watch(&lab.vms[0]);
    let waiting = async {
        let got = lab.try_attach(2, 7, "db", WAIT).await.unwrap();
        (got, Instant::now())
    };
    let leaving = async {
        let notice = notices.recv().await.unwrap();
        assert_eq!(
            notice,
            Notice::Wanted {
                volume: held.view.id,
                by_vm: "vm2".into()
            }
        );
        sleep(Duration::from_secs(3)).await;
        let words = "VM vm2 on host esx01 waits for it since 3 s; it stays with VM vm1 until that lets it go";
        let shown = lab.get(1, "db").await.unwrap();
        assert_eq!(shown.waiting.as_deref(), Some(words));
        let listed = lab.engine.list(&lab.caller(1)).await.unwrap();
        assert_eq!(listed.volumes[0].waiting.as_deref(), Some(words));
        let begun = Instant::now();
        assert_eq!(lab.detach(1, &held).await, Outcome::Changed(()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        Instant::now()
    };
    let ((got, attached_at), detached_at) = tokio::join!(waiting, leaving);
    assert!(attached_at.duration_since(detached_at) < Duration::from_millis(10));
    assert_eq!(got.waited.as_secs(), 3);
    assert_eq!(lab.world.writers(&disk(&got.view)), ["vm2"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_waiting_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    let caller = lab.caller(2);
    let waits = call(1);
    let address = volume("db");
    let attach = lab.engine.attach(&caller, &waits, &address, false, WAIT);
    let leave = async {
        sleep(Duration::from_secs(1)).await;
        waits.cancel.cancel();
    };
    let (answer, ()) = tokio::join!(attach, leave);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(lab.get(1, "db").await.unwrap().waiting, None);
    lab.detach(1, &held).await;
    assert_eq!(lab.get(1, "db").await.unwrap().ownership, Ownership::Free);
}

#[tokio::test(start_paused = true)]
async fn a_late_detach_changes_nothing() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let first = lab.attach(1, "db").await;
    let second = lab.attach(1, "db").await;
    assert_eq!(lab.detach(1, &first).await, Outcome::Unchanged(()));
    assert_eq!(lab.world.devices(&lab.vms[0]).len(), 1);
    assert_eq!(lab.detach(1, &second).await, Outcome::Changed(()));
    assert_eq!(lab.detach(1, &second).await, Outcome::Unchanged(()));
    lab.attach(2, "db").await;
    assert_eq!(
        lab.detach(1, &second).await,
        Outcome::Unchanged(()),
        "it is vm2's now"
    );
    assert_eq!(lab.world.devices(&lab.vms[1]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_stays_attached() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let attached = lab.attach(1, "db").await;
    lab.world.use_disk(&lab.vms[0], &disk(&made), true);
    let err = lab
        .try_detach(1, 5, made.id, attached.epoch)
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InUse, "{err}");
    assert_eq!(lab.get(1, "db").await.unwrap().ownership.name(), "attached");
    lab.world.use_disk(&lab.vms[0], &disk(&made), false);
    let freed = lab.try_detach(1, 5, made.id, attached.epoch).await.unwrap();
    assert_eq!(freed, Outcome::Changed(()), "the same request tries again");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_settled_by_looking() {
    for when in [When::Before, When::After] {
        for at in 0..40 {
            let lab = Lab::new();
            let made = lab.create(1, "db").await;
            let caller = lab.caller(1);
            lab.session.plan(at, Fault::NoAnswer(when));
            let first = lab
                .engine
                .attach(&caller, &call(1), &volume("db"), false, Duration::ZERO)
                .await;
            let again = lab
                .engine
                .attach(&caller, &call(1), &volume("db"), false, Duration::ZERO)
                .await;
            let epoch = match (&first, &again) {
                (Ok(first), _) => first.epoch,
                (Err(_), Ok(again)) => again.epoch,
                (Err(_), Err(why)) => panic!("no answer {when:?} at {at}: {why}"),
            };
            assert_eq!(lab.world.writers(&disk(&made)), ["vm1"], "{when:?} at {at}");
            let freed = lab
                .engine
                .detach(&caller, &call(2), made.id, epoch)
                .await
                .unwrap();
            let device = lab.world.devices(&lab.vms[0]);
            assert!(device.is_empty(), "{when:?} at {at}: {freed:?} {device:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_turns_back_before_anything_is_done() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let caller = lab.caller(1);
    let late = call_for(1, 0);
    let err = lab
        .engine
        .attach(&caller, &late, &volume("db"), false, WAIT)
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout);
    assert_eq!(lab.get(1, "db").await.unwrap().epoch, Epoch::default());
}

#[tokio::test(start_paused = true)]
async fn formatting_follows_the_epoch_and_the_stored_uuid() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let first = lab.attach(1, "db").await;
    let caller = lab.caller(1);
    let begin = async |epoch| {
        lab.engine
            .begin_format(&caller, &call(rand_request()), made.id, epoch)
            .await
    };
    let uuid = begin(first.epoch).await.unwrap();
    assert_eq!(
        begin(first.epoch).await.unwrap(),
        uuid,
        "the same UUID again"
    );
    let second = lab.attach(1, "db").await;
    assert_eq!(
        begin(first.epoch).await.unwrap_err().kind(),
        ErrorKind::Superseded
    );
    let finish = async |epoch, uuid| {
        lab.engine
            .finish_format(&caller, &call(rand_request()), made.id, epoch, uuid)
            .await
    };
    let wrong = finish(second.epoch, Uuid::nil()).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::FormatRefused);
    assert_eq!(
        finish(second.epoch, uuid).await.unwrap(),
        Outcome::Changed(())
    );
    assert_eq!(
        finish(second.epoch, uuid).await.unwrap(),
        Outcome::Unchanged(())
    );
    assert_eq!(
        begin(second.epoch).await.unwrap_err().kind(),
        ErrorKind::FormatRefused
    );
    let view = lab.get(1, "db").await.unwrap();
    assert_eq!(view.filesystem.state, FilesystemState::Ready { uuid });
    let other = lab.caller(2);
    let err = lab
        .engine
        .begin_format(&other, &call(1), made.id, second.epoch)
        .await
        .unwrap_err();
    assert!(matches!(err, Error::NotAttached { .. }), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_read_only_volume_is_writable_only_until_it_is_formatted() {
    let lab = Lab::new();
    let made = lab
        .try_create(1, 1, "db", &[("access", "read-only")])
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.options.access, Access::ReadOnly);
    let first = lab.attach(1, "db").await;
    let caller = lab.caller(1);
    let uuid = lab
        .engine
        .begin_format(&caller, &call(2), made.id, first.epoch)
        .await
        .unwrap();
    lab.engine
        .finish_format(&caller, &call(3), made.id, first.epoch, uuid)
        .await
        .unwrap();
    lab.detach(1, &first).await;
    lab.attach(1, "db").await;
    assert!(lab.world.writers(&disk(&made)).is_empty());
    assert!(lab.world.devices(&lab.vms[0])[0].read_only);
}

#[tokio::test(start_paused = true)]
async fn an_inventory_report_is_answered_and_releases_nothing() {
    let lab = Lab::new();
    let a = lab.create(1, "a").await;
    lab.create(1, "b").await;
    let first = lab.attach(1, "a").await;
    lab.attach(1, "b").await;
    let caller = lab.caller(1);
    let item = |epoch| InventoryItem {
        volume: a.id,
        epoch,
        mounted: true,
    };
    let answer = lab
        .engine
        .report_inventory(&caller, &[item(first.epoch)])
        .await
        .unwrap();
    assert_eq!(answer.attached.len(), 2, "also what was not reported");
    assert!(answer.superseded.is_empty() && answer.wanted.is_empty());
    let late = lab.attach(1, "a").await;
    let answer = lab
        .engine
        .report_inventory(&caller, &[item(first.epoch)])
        .await
        .unwrap();
    assert_eq!(answer.superseded, [a.id]);
    let waits = lab.try_attach(2, 9, "a", Duration::from_secs(2));
    let reports = async {
        sleep(Duration::from_secs(1)).await;
        lab.engine
            .report_inventory(&caller, &[item(late.epoch)])
            .await
            .unwrap()
    };
    let (_, answer) = tokio::join!(waits, reports);
    assert_eq!(answer.wanted, [a.id]);
    lab.world.reach(lab.host, &ds("ds"), false);
    let answer = lab
        .engine
        .report_inventory(&caller, &[item(late.epoch)])
        .await
        .unwrap();
    assert!(
        answer.superseded.is_empty(),
        "what cannot be read is not called lost"
    );
    lab.world.reach(lab.host, &ds("ds"), true);
    assert_eq!(lab.world.devices(&lab.vms[0]).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_copied_vm_with_the_same_uuid_gets_nothing_while_the_first_holds_volumes() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let attached = lab.attach(1, "db").await;
    let uuid = lab.vms[0].instance_uuid;
    let twin = lab
        .world
        .add_vm_with_uuid(lab.host, "twin", &ds("ds"), uuid);
    let err = lab
        .engine
        .caller(uuid, &twin.config_path)
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::UnknownCaller);
    assert!(
        err.to_string().contains("vm1") && err.to_string().contains("twin"),
        "{err}"
    );
    assert_eq!(lab.detach(1, &attached).await, Outcome::Changed(()));
    assert!(lab.engine.caller(uuid, &twin.config_path).await.is_ok());
    // Both began while neither held any: none of them is refused then.
    lab.create(1, "other").await;
    let second = lab.engine.caller(uuid, &twin.config_path).await.unwrap();
    lab.attach(1, "db").await;
    let (once, other) = (call(rand_request()), volume("other"));
    let held = lab.engine.attach(&second, &once, &other, false, WAIT);
    held.await.unwrap();
    for path in [&twin.config_path, &lab.vms[0].config_path] {
        assert!(lab.engine.caller(uuid, path).await.is_ok(), "{path}");
    }
    let err = lab
        .engine
        .caller(Uuid::nil(), "[ds] x/x.vmx")
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::UnknownCaller);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_known_costs_one_look_and_nobody_is_refused_without_a_second() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let ask = async |config_path: &str| {
        lab.session.begin_trace();
        let uuid = lab.vms[1].instance_uuid;
        let caller = lab.engine.caller(uuid, config_path).await;
        let calls = lab.session.end_trace();
        (caller, calls.iter().filter(|c| c.verb == "vms").count())
    };
    let (known, looks) = ask(&lab.vms[1].config_path).await;
    assert_eq!(known.unwrap(), lab.caller(2), "what vm1 holds is its own");
    assert_eq!(looks, 1);
    let (unknown, looks) = ask("[ds] x/x.vmx").await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::UnknownCaller);
    assert_eq!(looks, 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_vm_is_bounded_and_its_detach_goes_through() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    let settings = Settings {
        calls_per_vm: 1,
        ..Settings::default()
    };
    let engine = Engine::new(lab.session.ports(), settings);
    let caller = lab.caller(1);
    let (a, b) = (volume("db"), volume("none"));
    let flood = async { tokio::join!(engine.get(&caller, &a), engine.get(&caller, &b)) };
    let once = call(3);
    let detach = engine.detach(&caller, &once, held.view.id, held.epoch);
    let ((first, second), detached) = tokio::join!(flood, detach);
    assert!(first.is_ok());
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(detached.unwrap(), Outcome::Changed(()));
}

#[tokio::test(start_paused = true)]
async fn an_administrator_sees_and_removes_volumes_of_every_group() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(2, "db").await;
    let status = lab.engine.admin_status().await.unwrap();
    assert_eq!((status.vms, status.volumes, status.attached), (3, 1, 1));
    assert!(
        status.open_to_all && status.warnings.is_empty(),
        "{:?}",
        status.warnings
    );
    let vms = lab.engine.admin_vms().await.unwrap();
    assert_eq!(vms[1].volumes, ["db@ds"]);
    let inspect = lab
        .engine
        .admin_inspect(&made.id.to_string())
        .await
        .unwrap();
    assert!(
        inspect.record_json.contains("\"epoch\": 1"),
        "{}",
        inspect.record_json
    );
    assert_eq!(inspect.volume.disk_path, disk(&made).path.to_string());
    let err = lab
        .engine
        .admin_remove(&root(), &call(1), "db")
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InUse);
    lab.world.power(&lab.vms[1], Power::Off);
    let removed = lab
        .engine
        .admin_remove(&root(), &call(2), "db")
        .await
        .unwrap();
    assert_eq!(removed, (made.id, "db@ds".to_owned()));
    assert_eq!(lab.engine.admin_volumes().await.unwrap().volumes, []);
    let datastores = lab.engine.admin_datastores().await.unwrap();
    assert_eq!((datastores[0].volumes, &datastores[0].problem), (0, &None));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_write_a_record_says_why_and_not_that_others_change_it() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    for _ in 0..20 {
        lab.session.plan_at("write", Fault::Fail);
    }
    let now = Duration::ZERO;
    let refused = lab.try_attach(1, rand_request(), "db", now).await;
    let text = refused.unwrap_err().to_string();
    let cause =
        "the record of volume db@ds cannot be written: simulated I/O error; nothing was done";
    assert!(text.contains(cause), "{text}");
    assert!(!text.contains("others"), "{text}");
    lab.session.plan_nothing();
    lab.attach(1, "db").await;
}
