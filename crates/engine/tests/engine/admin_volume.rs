//! What an administrator does with one volume: names it, changes and protects it, takes it from its VM.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_domain::access::Leaving;
use vdvs_domain::{Epoch, Error, ErrorKind, Ownership};
use vdvs_engine::api::{AdminSet, GroupChange, Notice, Outcome, RemoveGroup, Teller};
use vdvs_engine::ports::{AuditEntry, Power};

use crate::hosts::{FENCE, Two};
use crate::moving::{forget_group, make_group, move_to};
use crate::support::{Lab, call, call_for, disk, rand_request, root, take};

async fn set(lab: &Lab, address: &str, options: &[(&str, &str)]) -> Result<Outcome<()>, Error> {
    let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    let set = AdminSet {
        options: options.iter().map(pair).collect::<BTreeMap<_, _>>(),
        ..AdminSet::default()
    };
    lab.engine.admin_set(&root(), address, &set).await
}

async fn protect(lab: &Lab, address: &str, on: bool) -> Result<Outcome<()>, Error> {
    let set = AdminSet {
        protect: Some(on),
        ..AdminSet::default()
    };
    lab.engine.admin_set(&root(), address, &set).await
}

async fn address_of(lab: &Lab, address: &str) -> Result<String, Error> {
    let found = lab.engine.admin_inspect(address).await?;
    Ok(found.volume.view.id.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_administrator_names_a_volume_by_vmgroup_datastore_or_the_beginning_of_its_id() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    let first = lab.create(1, "db").await;
    let second = lab.create(1, "db@ds2").await;
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    let third = lab.create(3, "db").await;
    let plain = address_of(&lab, "db").await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Ambiguous);
    for candidate in [
        format!("_DEFAULT/db@ds (id {})", first.id),
        format!("_DEFAULT/db@ds2 (id {})", second.id),
        format!("dev/db@ds (id {})", third.id),
    ] {
        assert!(plain.to_string().contains(&candidate), "{plain}");
    }
    assert_eq!(
        address_of(&lab, "dev/db").await.unwrap(),
        third.id.to_string()
    );
    assert_eq!(
        address_of(&lab, "db@ds2").await.unwrap(),
        second.id.to_string()
    );
    assert_eq!(
        address_of(&lab, "_DEFAULT/db@ds").await.unwrap(),
        first.id.to_string()
    );
    assert!(address_of(&lab, "db@ds").await.is_err(), "two of them");
    let whole = third.id.to_string();
    assert_eq!(address_of(&lab, &whole).await.unwrap(), whole);
    assert_eq!(address_of(&lab, &whole[..36]).await.unwrap(), whole);
    let short = address_of(&lab, &whole[..4]).await;
    assert_eq!(short.unwrap_err().kind(), ErrorKind::Ambiguous);
    let named = lab.create(1, &whole[..8]).await;
    assert_eq!(
        address_of(&lab, &whole[..8]).await.unwrap(),
        named.id.to_string()
    );
    let none = address_of(&lab, "dev/nothing").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn settings_count_from_the_next_attach_on_every_host_and_back() {
    let two = Two::new();
    let (made, held) = two.held(&[]).await;
    let read_only = &[("access", "read-only")];
    assert!(set(&two.near, "db", read_only).await.unwrap().is_change());
    assert!(!set(&two.near, "db", read_only).await.unwrap().is_change());
    assert_eq!(
        two.writers(&made),
        ["vm1"],
        "what is attached stays as it is"
    );
    // Formatted, so that read-only is read-only.
    let (caller, engine) = (two.near.caller(1), &two.near.engine);
    let (first, second) = (call(1), call(2));
    let begin = engine.begin_format(&caller, &first, made.id, held.epoch);
    let uuid = begin.await.unwrap();
    let finish = engine.finish_format(&caller, &second, made.id, held.epoch, uuid);
    finish.await.unwrap();
    two.near.detach(1, &held).await;
    let far = two.attach_far(1, Duration::ZERO).await.unwrap();
    assert!(two.writers(&made).is_empty());
    two.detach_far(1, &far).await;
    set(&two.near, "db", &[("access", "default")])
        .await
        .unwrap();
    two.near.attach(1, "db").await;
    assert_eq!(two.writers(&made), ["vm1"]);
    let refused = set(&two.near, "db", &[("size", "2gb")]).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("'Invalid options: ['size'] \n"),
        "{refused}"
    );
    let elsewhere = AdminSet {
        group: "dev".to_owned(),
        ..AdminSet::default()
    };
    let refused = engine
        .admin_set(&root(), "db", &elsewhere)
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("Vmgroup dev does not exist"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_protected_volume_is_removed_by_nobody_until_an_administrator_lifts_that() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    protect(&lab, "db", true).await.unwrap();
    let listed = lab.engine.admin_volumes().await.unwrap();
    assert!(listed.volumes[0].protected);
    let guest = lab.try_delete(1, 1, "db").await.unwrap_err();
    assert!(
        guest.to_string().contains("vdvs volume unprotect db@ds"),
        "{guest}"
    );
    assert_eq!(guest.kind(), ErrorKind::PermissionDenied);
    let admin = lab.engine.admin_remove(&root(), &call(2), "db").await;
    assert_eq!(admin.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // With its vmgroup neither.
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    move_to(&lab.engine, "db", "dev").await.unwrap();
    let remove = GroupChange::Remove(RemoveGroup {
        name: "dev".to_owned(),
        remove_volumes: true,
        force: true,
    });
    let tell = Teller::default();
    let group = lab.engine.admin_change_group(&root(), &remove, &tell).await;
    assert!(group.is_err());
    assert!(
        lab.world
            .read_disk(&disk(&listed.volumes[0].view))
            .is_some()
    );
    protect(&lab, "db", false).await.unwrap();
    lab.engine
        .admin_remove(&root(), &call(3), "db")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn taking_a_volume_asks_its_guest_first_and_force_takes_it_from_a_live_one() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    lab.world.use_disk(&lab.vms[0], &disk(&made), true);
    let mut notices = lab.engine.watch(&lab.vms[0]);
    let refused = take(&lab.engine, "db", false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    assert!(refused.to_string().contains("--force"), "{refused}");
    assert!(matches!(notices.try_recv(), Ok(Notice::Wanted { .. })));
    assert!(notices.try_recv().is_err(), "it is told once");
    // One that lets go is asked only.
    lab.world.use_disk(&lab.vms[0], &disk(&made), false);
    let guest = async {
        sleep(Duration::from_secs(2)).await;
        lab.detach(1, &held).await
    };
    let (taken, _) = tokio::join!(take(&lab.engine, "db", false), guest);
    assert!(taken.unwrap().is_change());
    let again = lab.attach(1, "db").await;
    lab.world.use_disk(&lab.vms[0], &disk(&made), true);
    let begun = Instant::now();
    let lines = take(&lab.engine, "db", true).await.unwrap().into_inner();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(lines[1].contains("what it had not written"), "{lines:?}");
    assert!(lab.world.writers(&disk(&made)).is_empty());
    let late = lab.try_detach(1, 9, made.id, again.epoch).await.unwrap();
    assert_eq!(late, Outcome::Unchanged(()));
    let audit = lab.world.audit(lab.host);
    let by_root = |e: &&AuditEntry| e.verb == "detach" && e.who.contains("root");
    assert_eq!(audit.iter().filter(by_root).count(), 2);
    let nobody = take(&lab.engine, "db", true).await.unwrap();
    assert!(!nobody.is_change(), "{nobody:?}");
    lab.attach(2, "db").await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_what_would_take_it() {
    for (options, says) in [
        (&[][..], "--force takes it, and what is not written is lost"),
        (FENCE, "--force takes it now"),
    ] {
        let lab = Lab::new();
        lab.try_create(1, 1, "db", options).await.unwrap();
        lab.attach(1, "db").await;
        let refused = take(&lab.engine, "db", false).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let mut two = Two::new();
    two.held(&[]).await;
    two.near.world.power(&two.near.vms[0], Power::Suspended);
    two.kill_near();
    for force in [false, true] {
        let refused = take(&two.far, "db", force).await.unwrap_err();
        assert!(refused.to_string().contains("is suspended"), "{refused}");
    }
}

/// A second before its deadline at the latest, so that the reason still arrives.
#[tokio::test(start_paused = true)]
async fn who_has_little_time_hears_in_time_why_it_was_not_taken() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let begun = Instant::now();
    let (user, short) = (root(), call_for(1, 5));
    let refused = lab.engine.admin_take(&user, &short, "db", false).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(begun.elapsed(), Duration::from_millis(4250));
}

#[tokio::test(start_paused = true)]
async fn from_a_vm_that_is_off_a_volume_is_taken_though_something_was_under_way() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    lab.lose_detach(1, 1, &held).await;
    lab.world.power(&lab.vms[0], Power::Off);
    assert!(take(&lab.engine, "db", false).await.unwrap().is_change());
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_vm_keeps_its_volume_whatever_is_said() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Suspended);
    let refused = take(&lab.engine, "db", true).await.unwrap_err();
    assert!(refused.to_string().contains("suspended"), "{refused}");
    lab.world.power(&lab.vms[0], Power::Off);
    assert!(take(&lab.engine, "db", false).await.unwrap().is_change());
    assert_eq!(lab.get(1, "db").await.unwrap().ownership, Ownership::Free);
}

#[tokio::test(start_paused = true)]
async fn the_owners_agent_on_another_host_takes_it_when_an_administrator_forces_it() {
    for options in [&[][..], FENCE] {
        let two = Two::new();
        let (made, _) = two.held(options).await;
        two.near
            .world
            .use_disk(&two.near.vms[0], &disk(&made), true);
        let begun = Instant::now();
        let taken = take(&two.far, "db", true).await.unwrap();
        assert!(taken.is_change());
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert!(two.writers(&made).is_empty());
        assert_eq!(two.audit(two.near.host, "fence").len(), 1);
        // Its claim keeps nobody out.
        let got = two.attach_far(1, Duration::from_secs(3)).await.unwrap();
        assert_eq!(got.epoch, Epoch::new(2));
    }
}

#[tokio::test(start_paused = true)]
async fn from_a_silent_host_only_proof_or_force_takes_it_and_never_from_who_holds_the_lock() {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    two.kill_near();
    let refused = take(&two.far, "db", false).await.unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    let held = take(&two.far, "db", true).await.unwrap_err();
    assert!(held.to_string().contains("power it off"), "{held}");
    assert_eq!(two.writers(&made), ["vm1"]);
    // Nobody can say who has the lock: then an administrator's word counts, and the lock goes on counting.
    two.near.world.hide_locks(true);
    let refused = take(&two.far, "db", false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse, "{refused}");
    let lines = take(&two.far, "db", true).await.unwrap().into_inner();
    assert!(lines[1].contains("nothing proves"), "{lines:?}");
    assert_eq!(two.audit(two.far_host, "forced release").len(), 1);
    let locked = two.attach_far(1, Duration::from_secs(2)).await;
    assert!(locked.is_err(), "the hypervisor's lock has the last word");
    assert_eq!(two.writers(&made), ["vm1"]);
    two.near.world.hide_locks(false);
    two.near.world.power(&two.near.vms[0], Power::Off);
    two.attach_far(1, Duration::from_secs(20)).await.unwrap();
    assert_eq!(two.writers(&made), ["far1"]);
    // With proof no force is needed.
    let (user, once) = (root(), call_for(rand_request(), 60));
    two.near.world.power(&two.far_vms[0], Power::Off);
    two.kill_far();
    two.start_near();
    let proven = two.near.engine.admin_take(&user, &once, "db", false).await;
    assert!(proven.unwrap().is_change());
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_shown_adopted_and_removed() {
    let lab = Lab::new();
    lab.create(1, "first").await;
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    let kept = lab.create(3, "kept").await;
    lab.create(3, "scrap").await;
    forget_group(&lab, "dev");
    sleep(Duration::from_secs(2)).await;
    let listed = lab.engine.admin_volumes().await.unwrap().volumes;
    assert_eq!(listed.iter().filter(|v| v.orphan).count(), 2, "{listed:?}");
    assert_eq!(
        lab.engine.list(&lab.caller(1)).await.unwrap().volumes.len(),
        1
    );
    move_to(&lab.engine, "N/A/kept", "_DEFAULT").await.unwrap();
    assert_eq!(lab.get(3, "kept").await.unwrap().id, kept.id);
    assert!(
        !lab.engine
            .admin_inspect("kept")
            .await
            .unwrap()
            .volume
            .orphan
    );
    lab.engine
        .admin_remove(&root(), &call(5), "N/A/scrap")
        .await
        .unwrap();
    assert_eq!(lab.engine.admin_volumes().await.unwrap().volumes.len(), 2);
}
