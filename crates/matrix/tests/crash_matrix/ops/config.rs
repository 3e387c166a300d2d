//! The configuration as a whole, and vSAN policies.

use uuid::Uuid;
use vdvs_domain::access::Leaving;
use vdvs_domain::{Error, ErrorKind, GroupId, PolicyName};
use vdvs_engine::api::{GroupChange, RemoveGroup, Teller};
use vdvs_engine::config::{ConfigVerb, Original, OriginalGroup, OriginalPrivilege};

use super::groups::{change, described, group};
use super::{Doing, NOTHING_LEFT, Operation, PLAIN};
use crate::arena::{Arena, REQUEST, Side, disk, ds, root};

type Said = Result<String, Error>;

const ONE: &str = r#"(("hostFailuresToTolerate" i1))"#;
const NONE: &str = r#"(("hostFailuresToTolerate" i0))"#;

const CONFIG: Operation = Operation {
    done: NOTHING_LEFT,
    touches: &[],
    ..PLAIN
};

async fn configure(a: &Arena, verb: ConfigVerb) -> Said {
    let (user, engine) = (root(), a.engine(Side::Near));
    engine.config_change(&user, &verb, false).await?;
    Ok("done".to_owned())
}

fn init(datastore: &str) -> ConfigVerb {
    ConfigVerb::Init {
        datastore: Some(ds(datastore)),
        local: false,
        force: false,
    }
}

/// Removes it with the flag that fits, as one is told: whether other hosts follow it hangs on how long they have run.
async fn remove(a: &Arena) -> Said {
    let remove = |local: bool| ConfigVerb::Remove {
        local,
        unlink: !local,
        confirm: true,
        no_backup: false,
    };
    match configure(a, remove(true)).await {
        Err(why)
            if why
                .to_string()
                .ends_with("vdvs config rm --unlink --confirm") =>
        {
            configure(a, remove(false)).await
        }
        said => said,
    }
}

/// There is one configuration, at this home, and this datastore follows it; both hosts say so.
fn governed<'a>(a: &'a Arena, home: &'static str, follows: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        for side in [Side::Near, Side::Far] {
            let shown = a.engine(side).config_show().await.unwrap();
            let homes: Vec<_> = shown.documents.iter().map(|d| d.home.to_string()).collect();
            assert_eq!(homes, [home], "{side:?}");
            let of = shown.datastores.iter().find(|d| d.datastore == ds(follows));
            let of = of.expect("the datastore is shown");
            assert_eq!(of.home, Some(ds(home)), "{side:?}: {of:?}");
            assert_eq!(of.problem, "", "{side:?}: {of:?}");
        }
    })
}

fn original() -> Original {
    let all = |name: &str, id: Uuid| OriginalGroup {
        id,
        name: name.to_owned(),
        description: String::new(),
        default_datastore: "_VM_DS://".to_owned(),
        vms: Vec::new(),
        privileges: vec![OriginalPrivilege {
            datastore: "_ALL_DS://".to_owned(),
            allow_create: true,
            max_volume_mb: 0,
            total_mb: 0,
        }],
    };
    Original {
        schema: (1, 2),
        groups: vec![
            all("_DEFAULT", GroupId::DEFAULT.uuid()),
            all("old", Uuid::from_u128(0x1234)),
        ],
        warnings: Vec::new(),
    }
}

fn policy() -> PolicyName {
    PolicyName::new("gold").unwrap()
}

async fn gold(a: &Arena) {
    let (user, engine) = (root(), a.engine(Side::Near));
    engine.policy_create(&user, &policy(), ONE).await.unwrap();
}

async fn with_policy(a: &Arena) {
    gold(a).await;
    a.create(1, "db@vsan", &[("vsan-policy-name", "gold")])
        .await;
}

/// The volume has this policy, and is known to have the newest.
fn has_policy<'a>(a: &'a Arena, content: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        let view = a.get(1, "db@vsan").await.unwrap();
        assert_eq!(a.world.policy_of(&disk(&view)).as_deref(), Some(content));
        let all = a.engine(Side::Near).policies().await.unwrap();
        let gold = all.iter().find(|p| p.policy.name == policy()).unwrap();
        assert_eq!((gold.volumes, gold.outdated), (1, 0));
    })
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "config init",
        untouched: true,
        act: |a| Box::pin(configure(a, init("ds"))),
        holds: |a| governed(a, "ds", "ds"),
        ..CONFIG
    },
    Operation {
        name: "config init of a second datastore",
        act: |a| Box::pin(configure(a, init("ds2"))),
        holds: |a| governed(a, "ds", "ds2"),
        ..CONFIG
    },
    Operation {
        name: "config mv",
        prepare: |a| Box::pin(async move { drop(configure(a, init("ds2")).await.unwrap()) }),
        act: |a| {
            Box::pin(configure(
                a,
                ConfigVerb::Move {
                    to: ds("ds2"),
                    force: false,
                },
            ))
        },
        holds: |a| governed(a, "ds2", "ds"),
        ..CONFIG
    },
    Operation {
        name: "config rm",
        act: |a| Box::pin(remove(a)),
        holds: |a| {
            Box::pin(async move {
                let why = a.get(1, "keep").await.unwrap_err();
                assert_eq!(why.kind(), ErrorKind::NotConfigured, "{why}");
            })
        },
        ..CONFIG
    },
    Operation {
        name: "config restore",
        prepare: |a| {
            Box::pin(async move {
                let made = change(a, group("dev", &["vm3"], Leaving::Ask));
                made.await.unwrap();
                *a.kept.borrow_mut() = a.engine(Side::Near).config_backup().await.unwrap();
                let remove = GroupChange::Remove(RemoveGroup {
                    name: "dev".to_owned(),
                    force: true,
                    ..Default::default()
                });
                change(a, remove).await.unwrap();
            })
        },
        act: |a| {
            let json = a.kept.borrow().clone();
            Box::pin(configure(a, ConfigVerb::Restore { json }))
        },
        holds: |a| {
            Box::pin(async move {
                let (members, _) = described(a, "dev").await.expect("it is back");
                assert_eq!(members, ["vm3"]);
            })
        },
        ..CONFIG
    },
    Operation {
        name: "config import",
        act: |a| {
            Box::pin(configure(
                a,
                ConfigVerb::Import {
                    original: original(),
                    datastore: None,
                },
            ))
        },
        holds: |a| Box::pin(async move { assert!(described(a, "old").await.is_some()) }),
        ..CONFIG
    },
    Operation {
        name: "config import onto an unused datastore",
        untouched: true,
        act: |a| {
            Box::pin(configure(
                a,
                ConfigVerb::Import {
                    original: original(),
                    datastore: Some(ds("ds")),
                },
            ))
        },
        holds: |a| Box::pin(async move { assert!(described(a, "old").await.is_some()) }),
        ..CONFIG
    },
    Operation {
        name: "policy create",
        prepare: |a| Box::pin(async move { drop(a.create(1, "first@vsan", &[]).await) }),
        act: |a| {
            Box::pin(async move {
                let (user, engine) = (root(), a.engine(Side::Near));
                engine.policy_create(&user, &policy(), ONE).await?;
                Ok("made".to_owned())
            })
        },
        holds: |a| {
            Box::pin(async move {
                let all = a.engine(Side::Far).policies().await.unwrap();
                assert!(all.iter().any(|p| p.policy.name == policy()));
            })
        },
        ..CONFIG
    },
    Operation {
        name: "create with a policy",
        prepare: |a| Box::pin(gold(a)),
        act: |a| {
            Box::pin(async move {
                let options = [("vsan-policy-name", "gold")];
                let made = a.try_create(1, REQUEST, "db@vsan", &options).await?;
                Ok(made.into_inner().name.to_string())
            })
        },
        touches: &["db"],
        holds: |a| has_policy(a, ONE),
        ..CONFIG
    },
    Operation {
        name: "policy update",
        prepare: |a| Box::pin(with_policy(a)),
        act: |a| {
            Box::pin(async move {
                let (user, tell) = (root(), Teller::default());
                let engine = a.engine(Side::Near);
                engine.policy_update(&user, &policy(), NONE, &tell).await?;
                Ok("updated".to_owned())
            })
        },
        holds: |a| has_policy(a, NONE),
        ..CONFIG
    },
    Operation {
        name: "policy rm",
        prepare: |a| Box::pin(gold(a)),
        act: |a| {
            Box::pin(async move {
                let (user, engine) = (root(), a.engine(Side::Near));
                engine.policy_remove(&user, &policy()).await?;
                Ok("removed".to_owned())
            })
        },
        holds: |a| {
            Box::pin(async move {
                let all = a.engine(Side::Far).policies().await.unwrap();
                assert!(all.is_empty(), "{all:?}");
            })
        },
        ..CONFIG
    },
];
