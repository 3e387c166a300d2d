//! Get and List, with and without the agent.

use tokio::time::{Duration, Instant, sleep};
use vdvs_domain::ErrorKind;

use super::{Guest, none, text};
use crate::service::Failure;
use crate::service::job::Kind;

async fn answer(guest: &Guest, name: &str) -> &'static str {
    guest.volumes().get(name).await.unwrap().status.vdvs.answer
}

#[tokio::test(start_paused = true)]
async fn a_known_name_is_answered_from_the_journal_and_marked_stale() {
    let mut guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    assert_eq!(answer(&guest, "v").await, "live");
    guest.agent.set_away(true);
    guest.restart().await;
    guest.clock.advance(90_000);
    let begun = Instant::now();
    for name in ["v", "v@vsanDatastore", "v@VSANdatastore"] {
        let view = guest.volumes().get(name).await.unwrap();
        assert_eq!(
            (view.name.as_str(), view.status.vdvs.answer),
            (name, "stale")
        );
        assert_eq!(view.status.vdvs.stale_for_s, Some(90));
    }
    let listed = guest.volumes().list().await.unwrap();
    assert_eq!(listed[0].name, "v@vsanDatastore");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_held_and_then_hung_up_on_but_never_denied() {
    let guest = Guest::new().await;
    guest.agent.set_away(true);
    let begun = Instant::now();
    let failure = guest.volumes().get("new").await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_while_a_name_is_held_answers_it() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.agent.set_away(true);
    let back = async {
        sleep(Duration::from_secs(4)).await;
        guest.agent.set_away(false);
    };
    let (view, ()) = tokio::join!(guest.volumes().get("v"), back);
    assert_eq!(view.unwrap().status.vdvs.answer, "live");
}

#[tokio::test(start_paused = true)]
async fn not_found_is_said_only_after_a_fresh_look_and_then_forgotten() {
    let guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    guest.volumes().remove("v").await.unwrap();
    let said = text(guest.volumes().get("v").await.unwrap_err());
    assert!(said.starts_with("Volume v not found"), "{said}");
    guest.agent.set_away(true);
    let failure = guest.volumes().get("v").await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)));
}

/// What the journal remembers of a name may be over: a removal asks which volume bears it now.
#[tokio::test(start_paused = true)]
async fn a_removal_is_of_the_volume_that_bears_the_name_now_not_of_one_remembered() {
    let guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    guest.agent.drop_volume("v");
    guest.agent.add("v", &none());
    guest.agent.forget_calls();
    guest.volumes().remove("v").await.unwrap();
    assert_eq!(guest.agent.calls(), ["get v", "delete v@vsanDatastore"]);
    assert!(guest.agent.volume("v").is_none());
    // Neither of the two is remembered.
    guest.agent.set_away(true);
    let failure = guest.volumes().get("v").await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
}

/// A left-over of which somebody else in the plugin sees to it that it is none, and no more.
#[tokio::test(start_paused = true)]
async fn a_removal_that_meets_somebody_who_only_looks_lets_the_left_over_go_itself() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    guest.mount("v", "b").await;
    guest.set_busy("v", true);
    guest.unmount("v", "b").await;
    guest.set_busy("v", false);
    assert!(guest.is_attached_here("v"));
    let looks = guest.volumes().start(volume.id, Kind::Check, |_, _| async {
        sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    guest.volumes().remove("v").await.unwrap();
    assert!(looks.ended().await.is_ok() && guest.agent.volume("v").is_none());
}

/// Removed elsewhere and made anew between the plugin's two questions.
#[tokio::test(start_paused = true)]
async fn a_name_that_passes_on_during_a_removal_takes_nothing_with_it() {
    let guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    let old = guest.agent.volume("v").unwrap();
    guest.agent.pass_name_on();
    let said = text(guest.volumes().remove("v").await.unwrap_err());
    assert!(said.starts_with("Volume v@vsanDatastore (id "), "{said}");
    let kept = guest.agent.volume("v").unwrap();
    assert_ne!(kept.id, old.id);
    guest.volumes().remove("v").await.unwrap();
    assert!(guest.agent.volume("v").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_tell_is_not_an_answer() {
    let guest = Guest::new().await;
    guest.volumes().create("known", &none()).await.unwrap();
    let kinds = [
        ErrorKind::Unavailable,
        ErrorKind::NotConfigured,
        ErrorKind::UnknownCaller,
        ErrorKind::HostFailed,
        ErrorKind::Overloaded,
        ErrorKind::Internal,
    ];
    for kind in kinds {
        guest.agent.fail_next("get", kind, "cannot tell");
        assert_eq!(answer(&guest, "known").await, "stale", "{kind}");
        guest.agent.fail_next("get", kind, "cannot tell");
        let failure = guest.volumes().get("new").await.unwrap_err();
        assert!(matches!(failure, Failure::Unknown(_)), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_exists_but_cannot_be_described_is_shown_with_its_problem() {
    let guest = Guest::new().await;
    for kind in [ErrorKind::Ambiguous, ErrorKind::Damaged] {
        guest.agent.fail_next("get", kind, "two of them");
        let view = guest.volumes().get("v").await.unwrap();
        assert_eq!(view.status.vdvs.problem.as_deref(), Some("two of them"));
    }
}

#[tokio::test(start_paused = true)]
async fn access_denied_is_said_for_new_names_and_does_not_unmake_known_ones() {
    let guest = Guest::new().await;
    guest.volumes().create("v", &none()).await.unwrap();
    guest.agent.fail_next(
        "get",
        ErrorKind::PermissionDenied,
        "No access privilege exists",
    );
    assert_eq!(answer(&guest, "v").await, "stale");
    guest.agent.fail_next(
        "get",
        ErrorKind::PermissionDenied,
        "No access privilege exists",
    );
    let said = text(guest.volumes().get("new").await.unwrap_err());
    assert_eq!(said, "No access privilege exists");
}

#[tokio::test(start_paused = true)]
async fn the_empty_name_and_impossible_names_are_not_found_without_asking() {
    let guest = Guest::new().await;
    let said = text(guest.volumes().get("").await.unwrap_err());
    assert_eq!(said, " No volume with name as empty string exists");
    for odd in ["a/b", "..", "x\0y", "v-000001"] {
        let said = text(guest.volumes().get(odd).await.unwrap_err());
        assert!(said.contains("not found"), "{said}");
    }
    assert!(guest.agent.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_teaches_names_and_forgets_what_it_no_longer_shows() {
    let guest = Guest::new().await;
    guest.agent.add("a", &none());
    guest.agent.add("b@other", &none());
    guest.clock.advance(1);
    assert_eq!(guest.volumes().list().await.unwrap().len(), 2);
    guest.agent.drop_volume("a");
    guest.clock.advance(1);
    guest.volumes().list().await.unwrap();
    guest.agent.set_away(true);
    assert_eq!(answer(&guest, "b").await, "stale");
    assert!(matches!(
        guest.volumes().get("a").await.unwrap_err(),
        Failure::Unknown(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn path_says_where_the_data_will_be_without_mounting() {
    let guest = Guest::new().await;
    let volume = guest.agent.add("v", &none());
    let path = guest.volumes().path("v").await.unwrap();
    assert_eq!(
        path.to_str().unwrap(),
        format!("/mnt/vdvs/{}/data", volume.id)
    );
    assert!(guest.device_calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn inspect_shows_the_originals_keys() {
    let guest = Guest::new().await;
    guest.agent.add("v", &none());
    guest.mount("v", "a").await;
    let view = guest.volumes().get("v").await.unwrap();
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["CreatedAt"], "2017-04-10T14:09:08Z");
    let status = &json["Status"];
    for (key, value) in [
        ("access", "read-write"),
        ("attach-as", "independent_persistent"),
        ("attached to VM", "swarm01"),
        ("clone-from", "None"),
        ("created", "Mon Apr 10 14:09:08 2017"),
        ("created by VM", "swarm01"),
        ("datastore", "vsanDatastore"),
        ("diskformat", "thin"),
        ("fstype", "ext4"),
        ("status", "attached"),
    ] {
        assert_eq!(status[key], value, "{key}");
    }
    assert_eq!(status["capacity"]["size"], "1GB");
    assert_eq!(status["capacity"]["allocated"], "32MB");
    let ours = &status["vdvs"];
    for (key, value) in [
        ("full_name", "v@vsanDatastore"),
        ("vmgroup", "_DEFAULT"),
        ("failover", "wait"),
        ("answer", "live"),
        ("here", "mounted"),
    ] {
        assert_eq!(ours[key], value, "{key}");
    }
    assert_eq!((&ours["epoch"], &ours["refcount"]), (&1.into(), &1.into()));
}
