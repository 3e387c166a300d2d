//! vSAN policies by name. Rows: `TestValidPolicy`, `TestInvalidPolicy`, `TestDeleteVsanPolicyAlreadyInUse` and
//! `TestNonVSANDatastore` of the original's catalogue; its rows S-1 and D-17; what its host tests pin down of vSAN.

use std::time::Duration;

use tokio::time::timeout;
use vdvs_domain::policy::PolicyFault;
use vdvs_domain::{Error, ErrorKind, PolicyName, VmRef};
use vdvs_engine::api::{Caller, Outcome, PolicyUse, Teller, VolumeView};
use vdvs_engine::config::{ConfigVerb, Original};
use vdvs_engine::ports::{AuditEntry, DatastoreKind};
use vdvs_host_sim::{Fault, When};

use crate::support::{Lab, WAIT, call, disk, ds, given, rand_request, root, volume};

const ONE: &str = r#"(("hostFailuresToTolerate" i1))"#;
const TWO: &str = r#"(("hostFailuresToTolerate" i2))"#;
const NONE: &str = r#"(("hostFailuresToTolerate" i0))"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.world.add_datastore(&ds("vsan"), DatastoreKind::Vsan);
    lab
}

fn name(text: &str) -> PolicyName {
    PolicyName::new(text).unwrap()
}

impl Lab {
    async fn policy(&self, text: &str, content: &str) {
        let (root, name) = (root(), name(text));
        let made = self.engine.policy_create(&root, &name, content);
        made.await.unwrap();
    }

    async fn update(&self, text: &str, content: &str) -> Result<Vec<String>, Error> {
        let (root, name, tell) = (root(), name(text), Teller::default());
        self.engine
            .policy_update(&root, &name, content, &tell)
            .await
    }

    async fn with(&self, volume: &str, policy: &str) -> Result<VolumeView, Error> {
        let options = [("vsan-policy-name", policy)];
        let made = self.try_create(1, rand_request(), volume, &options).await;
        made.map(Outcome::into_inner)
    }

    /// Volumes that name it, and those of them that do not have it.
    async fn used(&self, policy: &str) -> (usize, usize) {
        let all: Vec<PolicyUse> = self.engine.policies().await.unwrap();
        let found = all.iter().find(|p| p.policy.name.as_str() == policy);
        found.map(|p| (p.volumes, p.outdated)).unwrap()
    }

    fn has(&self, view: &VolumeView) -> Option<String> {
        self.world.policy_of(&disk(view))
    }

    async fn volumes(&self) -> Vec<String> {
        let all = self.engine.admin_volumes().await.unwrap().volumes;
        all.iter().map(|v| v.view.name.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn test_valid_policy_a_volume_gets_the_policy_it_names_and_a_clone_inherits_it() {
    let lab = lab();
    lab.policy("gold", " (\t(\"hostFailuresToTolerate\"   i01))\n")
        .await;
    let made = lab.with("v@vsan", "gold").await.unwrap();
    assert_eq!(lab.has(&made).as_deref(), Some(ONE));
    assert_eq!(made.options.policy, Some(name("gold")));
    lab.policy("silver", NONE).await;
    let from = |policy: Option<&'static str>| {
        let mut options = vec![("clone-from", "v@vsan")];
        options.extend(policy.map(|p| ("vsan-policy-name", p)));
        options
    };
    let copy = lab.try_create(1, 1, "w@vsan", &from(None)).await.unwrap();
    assert_eq!(lab.has(&copy.into_inner()).as_deref(), Some(ONE));
    let named = from(Some("silver"));
    let copy = lab.try_create(1, 2, "x@vsan", &named).await.unwrap();
    assert_eq!(lab.has(&copy.into_inner()).as_deref(), Some(NONE));
    let copy = lab.try_create(1, 3, "y", &from(None)).await.unwrap();
    let copy = copy.into_inner();
    assert_eq!(
        copy.options.policy, None,
        "left behind where there are none"
    );
    assert_eq!(lab.used("gold").await, (2, 0));
    assert_eq!(lab.used("silver").await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn test_invalid_policy_an_unknown_bad_or_unsatisfiable_one_leaves_no_volume() {
    let lab = lab();
    lab.policy("gold", ONE).await;
    lab.policy("strong", TWO).await;
    let unknown = lab.with("v@vsan", "glod").await.unwrap_err().to_string();
    assert!(
        unknown.starts_with("Policy glod does not exist."),
        "{unknown}"
    );
    // Which policies there are is not a guest's business (S-12).
    assert!(!unknown.contains("gold"), "{unknown}");
    let refused = lab.with("v@vsan", "strong").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let text = refused.to_string();
    assert!(
        text.starts_with("Failed to create volume v@vsan: ") && text.contains("needs 5 hosts"),
        "{text}"
    );
    assert!(lab.volumes().await.is_empty());
    let left = lab.world.files(&ds("vsan"));
    assert!(!left.iter().any(|f| f.contains("/v.")), "{left:?}");
    let bad = [
        "",
        "hostFailuresToTolerate=1",
        "((\"hostFailuresToTolerate\" i9))",
    ];
    for content in bad {
        let made = lab
            .engine
            .policy_create(&root(), &name("bad"), content)
            .await;
        let text = made.unwrap_err().to_string();
        assert!(text.starts_with("Error: Invalid policy string"), "{text}");
    }
    // It is enough that there are the hosts, or that it is forced.
    lab.world.set_storage_hosts(&ds("vsan"), 5);
    lab.with("v@vsan", "strong").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn test_delete_vsan_policy_already_in_use_is_refused_and_it_is_counted() {
    let lab = lab();
    lab.policy("gold", ONE).await;
    assert_eq!(lab.used("gold").await, (0, 0));
    lab.with("v@vsan", "gold").await.unwrap();
    assert_eq!(lab.used("gold").await, (1, 0));
    let (root, gold) = (root(), name("gold"));
    let refused = lab.engine.policy_remove(&root, &gold).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with("Cannot remove. Policy is in use by v@vsan"),
        "{text}"
    );
    lab.try_delete(1, rand_request(), "v@vsan").await.unwrap();
    // While a datastore with more volumes cannot be read, nobody knows.
    lab.world.add_datastore(&ds("vsan2"), DatastoreKind::Vsan);
    lab.world.reach(lab.host, &ds("vsan2"), false);
    let refused = lab.engine.policy_remove(&root, &gold).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    lab.world.reach(lab.host, &ds("vsan2"), true);
    lab.engine.policy_remove(&root, &gold).await.unwrap();
    let gone = lab.engine.policy_remove(&root, &gold).await.unwrap_err();
    assert!(
        gone.to_string().starts_with("Policy gold does not exist"),
        "{gone}"
    );
}

#[tokio::test(start_paused = true)]
async fn test_non_vsan_datastore_refuses_a_policy_and_the_volume_is_not_listed() {
    let lab = lab();
    lab.policy("gold", ONE).await;
    let refused = lab.with("v@ds", "gold").await.unwrap_err().to_string();
    assert!(
        refused.starts_with("Cannot use a VSAN policy on a non-VSAN datastore"),
        "{refused}"
    );
    assert!(lab.volumes().await.is_empty());
    let without = Lab::new();
    let made = without
        .engine
        .policy_create(&root(), &name("gold"), ONE)
        .await;
    let text = made.unwrap_err().to_string();
    assert!(
        text.starts_with("Error: VSAN datastore does not exist"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_reaches_every_volume_and_an_identical_one_is_refused() {
    let lab = lab();
    lab.policy("gold", ONE).await;
    let one = lab.with("v@vsan", "gold").await.unwrap();
    let other = lab.with("w@vsan", "gold").await.unwrap();
    lab.attach(1, "w@vsan").await;
    let lines = lab.update("gold", NONE).await.unwrap();
    assert_eq!(lines, ["Successfully updated: 2 volumes."]);
    for view in [&one, &other] {
        assert_eq!(lab.has(view).as_deref(), Some(NONE));
    }
    let same = lab
        .update("gold", "( (\"hostFailuresToTolerate\" i0 ) )")
        .await;
    let text = same.unwrap_err().to_string();
    assert!(
        text.starts_with("Error: New policy is identical to old policy. Ignoring."),
        "{text}"
    );
    let missing = lab.update("silver", ONE).await.unwrap_err().to_string();
    assert!(
        missing.starts_with("Error: Policy silver does not exist"),
        "{missing}"
    );
}

#[tokio::test(start_paused = true)]
async fn d17_a_volume_that_fails_keeps_what_it_had_the_rest_has_the_new_and_the_same_command_ends_it()
 {
    let lab = lab();
    lab.policy("gold", ONE).await;
    let mut views = Vec::new();
    for volume in ["u@vsan", "v@vsan", "w@vsan"] {
        views.push(lab.with(volume, "gold").await.unwrap());
    }
    lab.world.refuse_policies(&disk(&views[1]), true);
    let refused = lab.update("gold", NONE).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with(
            "Successfully updated: 2 volumes.\nFailed to update:     [v@vsan (simulated refusal)] volumes"
        ),
        "{text}"
    );
    assert_eq!(lab.used("gold").await, (3, 1));
    assert_eq!(lab.has(&views[1]).as_deref(), Some(ONE));
    let again = lab.update("gold", NONE).await.unwrap_err().to_string();
    assert!(
        again.starts_with("Successfully updated: 0 volumes."),
        "{again}"
    );
    lab.world.refuse_policies(&disk(&views[1]), false);
    let lines = lab.update("gold", NONE).await.unwrap();
    assert_eq!(lines, ["Successfully updated: 1 volumes."]);
    assert_eq!(lab.used("gold").await, (3, 0));
    assert_eq!(lab.has(&views[1]).as_deref(), Some(NONE));
    // Nothing is left over that could be taken for a policy, as the original's `.old` files were.
    assert_eq!(lab.engine.policies().await.unwrap().len(), 1);
    let files = lab.world.files(&ds("vsan"));
    assert!(!files.iter().any(|f| f.contains("policies")), "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_a_crash_cut_off_anywhere_is_ended_by_the_same_command() {
    for cut in 1.. {
        let mut lab = lab();
        lab.policy("gold", ONE).await;
        let mut views = Vec::new();
        for volume in ["v@vsan", "w@vsan"] {
            views.push(lab.with(volume, "gold").await.unwrap());
        }
        lab.session.plan(cut, Fault::Crash(When::After));
        drop(timeout(WAIT, lab.update("gold", NONE)).await);
        if !lab.session.is_dead() {
            assert!(cut > 10, "the update makes calls");
            return;
        }
        lab.restart();
        match lab.update("gold", NONE).await {
            Ok(_) | Err(Error::Policy(PolicyFault::Identical)) => {}
            Err(why) => panic!("cut at call {cut}: {why}"),
        }
        assert_eq!(lab.used("gold").await, (2, 0), "cut at call {cut}");
        for view in &views {
            assert_eq!(lab.has(view).as_deref(), Some(NONE), "cut at call {cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_a_crash_cut_off_ends_with_its_policy_or_without_the_volume() {
    for cut in 1.. {
        let mut lab = lab();
        lab.policy("gold", ONE).await;
        lab.session.plan(cut, Fault::Crash(When::After));
        drop(timeout(WAIT, lab.with("v@vsan", "gold")).await);
        let finished = !lab.session.is_dead();
        lab.restart();
        for _ in 0..3 {
            lab.engine.sweep().await;
        }
        match lab.get(1, "v@vsan").await {
            Ok(view) => assert_eq!(lab.has(&view).as_deref(), Some(ONE), "cut at call {cut}"),
            Err(why) => assert_eq!(why.kind(), ErrorKind::NotFound, "cut at call {cut}: {why}"),
        }
        if finished {
            assert!(cut > 10, "a create makes calls");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_hosts_that_update_at_once_leave_every_disk_with_the_newest_content() {
    for round in 0..20_u64 {
        let lab = lab();
        lab.policy("gold", ONE).await;
        let view = lab.with("v@vsan", "gold").await.unwrap();
        let (_, other) = lab.second_host();
        let (root, gold, tell) = (root(), name("gold"), Teller::default());
        let slow = Fault::Slow(Duration::from_millis(3 * round));
        lab.session.plan(round + 1, slow);
        let here = lab.update("gold", NONE);
        let there = other.policy_update(&root, &gold, r#"(("stripeWidth" i2))"#, &tell);
        let (here, there) = tokio::join!(here, there);
        drop((here, there));
        let all = lab.engine.policies().await.unwrap();
        let content = all[0].policy.content.clone();
        assert_eq!(lab.has(&view), Some(content), "round {round}");
        assert_eq!(lab.used("gold").await, (1, 0), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_never_removed_under_a_volume_that_another_host_makes() {
    for round in 0..40_u64 {
        let lab = lab();
        lab.policy("gold", ONE).await;
        let (host, other) = lab.second_host();
        let vm = lab.world.add_vm(host, "far", &ds("ds"));
        let caller = Caller {
            vm: VmRef {
                id: vm,
                name: "far".to_owned(),
            },
            home: Some(ds("ds")),
        };
        let (root, gold) = (root(), name("gold"));
        let slow = Fault::Slow(Duration::from_millis(200));
        lab.session.plan(round + 1, slow);
        let (asked, wait) = (volume("v@vsan"), call(1));
        let options = given(&[("vsan-policy-name", "gold")]);
        let create = other.create(&caller, &wait, &asked, &options);
        let remove = lab.engine.policy_remove(&root, &gold);
        let (created, removed) = tokio::join!(create, remove);
        let there = lab.engine.policies().await.unwrap().len() == 1;
        assert!(
            created.is_err() || there,
            "round {round}: {created:?} {removed:?}"
        );
        assert_eq!(removed.is_ok(), !there, "round {round}: {removed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s1_what_the_original_kept_as_files_is_never_used_by_name() {
    let lab = lab();
    lab.create(1, "seed@vsan").await;
    lab.world
        .put_file(&ds("vsan"), "dockvols/policies/gold", ONE.as_bytes());
    let refused = lab.with("v@vsan", "gold").await.unwrap_err().to_string();
    assert!(
        refused.starts_with("Policy gold does not exist."),
        "{refused}"
    );
    assert!(lab.engine.policies().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_import_takes_the_originals_policies_and_says_which_it_cannot_take() {
    let lab = lab();
    lab.create(1, "seed@vsan").await;
    let put = |name: &str, content: &str| {
        let path = format!("dockvols/policies/{name}");
        lab.world.put_file(&ds("vsan"), &path, content.as_bytes());
    };
    put("gold", "((\"hostFailuresToTolerate\"   i1))\n");
    put("gold.old", NONE);
    put("odd", "hostFailuresToTolerate=1\n");
    let import = ConfigVerb::Import {
        original: Original {
            schema: (1, 2),
            ..Original::default()
        },
        datastore: None,
    };
    let done = lab.engine.config_change(&root(), &import, false).await;
    let done = done.unwrap();
    let odd = |w: &String| w.contains("policy \"odd\"") && w.contains("Invalid policy string");
    assert!(done.warnings.iter().any(odd), "{done:?}");
    let policies = lab.engine.policies().await.unwrap();
    let names: Vec<&str> = policies.iter().map(|p| p.policy.name.as_str()).collect();
    assert_eq!(names, ["gold"]);
    assert_eq!(policies[0].policy.content, ONE);
}

#[tokio::test(start_paused = true)]
async fn changes_of_policies_are_in_the_audit_with_their_user() {
    let lab = lab();
    lab.policy("gold", ONE).await;
    lab.with("v@vsan", "gold").await.unwrap();
    lab.update("gold", NONE).await.unwrap();
    let rows = lab.world.audit(lab.host);
    let said = |verb: &str, text: &str| {
        let is = |r: &&AuditEntry| r.verb == verb && r.detail.contains(text);
        rows.iter().find(is).is_some_and(|r| r.who.contains("root"))
    };
    assert!(said("config", "policy create gold"), "{rows:?}");
    assert!(
        said("policy update", "version 2 given to 1 volumes"),
        "{rows:?}"
    );
}
