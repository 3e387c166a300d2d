//! Volumes, and VMs with their volumes, that change their vmgroup; settings of one volume.

use vdvs_domain::access::Leaving;
use vdvs_domain::{Error, ErrorKind};
use vdvs_engine::api::{AdminSet, GroupChange};

use super::groups::{change, group, members, with_dev};
use super::{Doing, NOTHING_LEFT, Operation, PLAIN};
use crate::arena::{Arena, REQUEST, Side, call, root};

type Said = Result<String, Error>;

const MOVE: Operation = Operation {
    done: NOTHING_LEFT,
    // Its owner stays whatever happens.
    touches: &[],
    ..PLAIN
};

fn moved<'a>(a: &'a Arena, to: &'static str) -> Doing<'a, Said> {
    Box::pin(async move {
        let (user, once) = (root(), call(REQUEST));
        let engine = a.engine(Side::Near);
        engine.admin_move(&user, &once, "db", to, false).await?;
        Ok("moved".to_owned())
    })
}

fn is_in<'a>(a: &'a Arena, group: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        for side in [Side::Near, Side::Far] {
            let found = a.engine(side).admin_inspect("db").await.unwrap();
            assert_eq!(found.volume.view.group.as_str(), group);
        }
    })
}

/// The VM and its volume are in one vmgroup, whichever.
async fn together(a: &Arena) {
    let vms = a.engine(Side::Near).admin_vms().await.unwrap();
    let vm = vms.iter().find(|v| v.vm.name == "vm1").unwrap();
    let found = a.engine(Side::Near).admin_inspect("db").await.unwrap();
    assert_eq!(vm.group.as_ref(), Some(&found.volume.view.group));
}

async fn set(a: &Arena, options: &[(&str, &str)], protect: Option<bool>) -> Said {
    let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    let set = AdminSet {
        options: options.iter().map(pair).collect(),
        protect,
        ..AdminSet::default()
    };
    let (user, engine) = (root(), a.engine(Side::Near));
    engine.admin_set(&user, "db", &set).await?;
    Ok("set".to_owned())
}

async fn attached(a: &Arena) {
    a.create(1, "db", &[]).await;
    a.attach(1, "db").await;
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "move a volume",
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                a.create(1, "db", &[]).await;
            })
        },
        act: |a| moved(a, "dev"),
        holds: |a| is_in(a, "dev"),
        ..MOVE
    },
    Operation {
        name: "move a volume in use",
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                attached(a).await;
            })
        },
        act: |a| moved(a, "dev"),
        holds: |a| is_in(a, "dev"),
        ..MOVE
    },
    Operation {
        name: "vmgroup create with VMs and their volumes",
        running: true,
        lingers: true,
        prepare: |a| Box::pin(attached(a)),
        act: |a| Box::pin(change(a, group("dev", &["vm1"], Leaving::Move))),
        holds: |a| Box::pin(together(a)),
        ..MOVE
    },
    Operation {
        name: "vmgroup vm add with its volumes",
        running: true,
        lingers: true,
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                attached(a).await;
            })
        },
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::AddMembers(members("vm1", Leaving::Move), Vec::new()),
            ))
        },
        holds: |a| is_in(a, "dev"),
        ..MOVE
    },
    Operation {
        name: "vmgroup vm rm with its volumes",
        running: true,
        lingers: true,
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                a.create(3, "db", &[]).await;
                a.attach(3, "db").await;
            })
        },
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::RemoveMembers(members("vm3", Leaving::Move), Vec::new()),
            ))
        },
        holds: |a| is_in(a, "_DEFAULT"),
        ..MOVE
    },
    Operation {
        name: "volume set",
        prepare: |a| Box::pin(attached(a)),
        act: |a| Box::pin(set(a, &[("access", "read-only")], None)),
        holds: |a| {
            Box::pin(async move {
                let view = a.get(1, "db").await.unwrap();
                let options = format!("{:?}", view.options);
                assert!(options.contains("ReadOnly"), "{options}");
            })
        },
        ..MOVE
    },
    Operation {
        name: "volume protect",
        prepare: |a| Box::pin(attached(a)),
        act: |a| Box::pin(set(a, &[], Some(true))),
        holds: |a| {
            Box::pin(async move {
                let found = a.engine(Side::Near).admin_inspect("db").await.unwrap();
                assert!(found.volume.protected);
            })
        },
        ..MOVE
    },
    Operation {
        name: "volume rm by an administrator",
        prepare: |a| Box::pin(async move { drop(a.create(1, "db", &[]).await) }),
        act: |a| {
            Box::pin(async move {
                let (user, once) = (root(), call(REQUEST));
                let engine = a.engine(Side::Near);
                engine.admin_remove(&user, &once, "db").await?;
                Ok("removed".to_owned())
            })
        },
        touches: &["db"],
        holds: |a| {
            Box::pin(async move {
                let why = a.get(1, "db").await.unwrap_err();
                assert_eq!(why.kind(), ErrorKind::NotFound, "{why}");
            })
        },
        ..MOVE
    },
];
