//! What happened, from the host's own store: who, what, and which of it was refused.

use vdvs_domain::Timestamp;
use vdvs_engine::api::Teller;
use vdvs_engine::ports::{AuditQuery, AuditRow};

use crate::support::{Lab, call, rand_request, root};
use crate::why::{closed, team};

async fn rows(lab: &Lab, query: AuditQuery) -> Vec<AuditRow> {
    lab.engine.admin_audit(query).await.unwrap().rows
}

fn all() -> AuditQuery {
    AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_and_denial_says_who_and_rows_are_found_by_their_parts_a_page_at_a_time() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    lab.detach(1, &held).await;
    let (user, teller) = (root(), Teller::default());
    for change in [team("vm2"), closed()] {
        let done = lab.engine.admin_change_group(&user, &change, &teller);
        done.await.unwrap();
    }
    lab.try_create(2, rand_request(), "mine", &[])
        .await
        .unwrap_err();
    let remove = call(rand_request());
    lab.engine.admin_remove(&user, &remove, "db").await.unwrap();

    let everything = rows(&lab, all()).await;
    let verbs: Vec<_> = everything.iter().rev().map(|r| r.verb.as_str()).collect();
    for verb in ["create", "attach", "detach", "delete"] {
        assert!(verbs.contains(&verb), "{verb}: {verbs:?}");
    }
    let by_user = rows(
        &lab,
        AuditQuery {
            who: "USER root".to_owned(),
            ..all()
        },
    )
    .await;
    assert_eq!(
        by_user.len(),
        3,
        "two changes of vmgroups and a removal: {by_user:?}"
    );
    assert!(by_user.iter().all(|r| r.who == "user root (uid 0)"));
    assert_eq!(
        (by_user[0].verb.as_str(), by_user[0].object.as_str()),
        ("delete", "db@ds")
    );

    let denials = rows(
        &lab,
        AuditQuery {
            denials_only: true,
            ..all()
        },
    )
    .await;
    assert_eq!(denials.len(), 1, "{denials:?}");
    let denial = &denials[0];
    let vm = lab.vms[1].instance_uuid;
    assert_eq!(denial.who, format!("{vm} vm2"));
    assert_eq!(
        (denial.verb.as_str(), denial.outcome.as_str()),
        ("create", "PERMISSION_DENIED")
    );

    let page = |before| AuditQuery {
        before,
        limit: 2,
        ..all()
    };
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = lab.engine.admin_audit(page(before)).await.unwrap();
        paged.extend(page.rows);
        before = paged.last().map(|r: &AuditRow| r.number);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, everything);
    let later = Timestamp::from_millis(u64::MAX / 2);
    assert!(
        rows(
            &lab,
            AuditQuery {
                since: Some(later),
                ..all()
            }
        )
        .await
        .is_empty()
    );
}
