//! What guests ask of the agent on their own host.

use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::{Error, ErrorKind, FilesystemState, Ownership};
use vdvs_engine::api::InventoryItem;
use vdvs_engine::ports::Power;

use super::{Doing, Operation, PLAIN};
use crate::arena::{Arena, CONTENT, REQUEST, call, disk, volume};

type Said = Result<String, Error>;

fn create<'a>(
    a: &'a Arena,
    name: &'static str,
    options: &'static [(&str, &str)],
) -> Doing<'a, Said> {
    Box::pin(async move {
        let made = a.try_create(1, REQUEST, name, options).await?.into_inner();
        Ok(format!("{} on {}", made.name, made.datastore))
    })
}

fn exists<'a>(a: &'a Arena, name: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        let view = a.get(1, name).await.unwrap();
        assert_eq!(view.ownership, Ownership::Free, "{name}");
    })
}

fn free<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move { drop(a.create(1, "db", &[]).await) })
}

fn attached<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        a.create(1, "db", &[]).await;
        a.attach(1, "db").await;
    })
}

fn attach<'a>(a: &'a Arena, vm: usize) -> Doing<'a, Said> {
    Box::pin(async move {
        let got = a.try_attach(vm, REQUEST, "db", Duration::ZERO).await?;
        Ok(format!("epoch {}", got.epoch))
    })
}

/// The volume is attached, to this VM and no other.
fn belongs<'a>(a: &'a Arena, vm: usize) -> Doing<'a, ()> {
    Box::pin(async move {
        let view = a.get(vm, "db").await.unwrap();
        assert!(view.ownership.is_owned_by(a.vm(vm)), "{:?}", view.ownership);
        assert_eq!(a.world.writers(&disk(&view)), [format!("vm{vm}")]);
        assert_eq!(a.world.read_disk(&disk(&view)), Some(CONTENT));
    })
}

fn copied<'a>(a: &'a Arena, name: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        let copy = a.get(1, name).await.unwrap();
        assert_eq!(a.world.read_disk(&disk(&copy)), Some(CONTENT));
        let source = a.get(1, "db").await.unwrap();
        assert_eq!(source.ownership, Ownership::Free);
    })
}

fn gone<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        let why = a.get(1, "db").await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotFound, "{why}");
    })
}

async fn begin_format(a: &Arena, n: u128) -> Result<Uuid, Error> {
    let (id, epoch) = a.held("db");
    let (caller, call) = (a.caller(1), call(n));
    a.engine_of(1).begin_format(&caller, &call, id, epoch).await
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "first use",
        untouched: true,
        act: |a| create(a, "db", &[]),
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "first use of a second datastore",
        act: |a| create(a, "db@ds2", &[]),
        holds: |a| exists(a, "db@ds2"),
        ..PLAIN
    },
    Operation {
        name: "create thin",
        act: |a| create(a, "db", &[("diskformat", "thin")]),
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "create zeroedthick",
        act: |a| create(a, "db", &[("diskformat", "zeroedthick")]),
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "create eagerzeroedthick",
        act: |a| create(a, "db", &[("diskformat", "eagerzeroedthick")]),
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "create what exists",
        prepare: |a| free(a),
        act: |a| create(a, "db", &[]),
        touches: &[],
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "clone",
        tidies: true,
        prepare: |a| free(a),
        act: |a| create(a, "copy", &[("clone-from", "db")]),
        holds: |a| copied(a, "copy"),
        ..PLAIN
    },
    Operation {
        name: "clone to another datastore",
        tidies: true,
        prepare: |a| free(a),
        act: |a| create(a, "copy@ds2", &[("clone-from", "db")]),
        holds: |a| copied(a, "copy@ds2"),
        ..PLAIN
    },
    Operation {
        name: "delete",
        prepare: |a| free(a),
        act: |a| {
            Box::pin(async move {
                let (caller, once) = (a.caller(1), call(REQUEST));
                let engine = a.engine_of(1);
                engine.delete(&caller, &once, &volume("db"), None).await?;
                Ok("deleted".to_owned())
            })
        },
        done: &[ErrorKind::NotFound],
        holds: |a| gone(a),
        ..PLAIN
    },
    Operation {
        name: "attach",
        prepare: |a| free(a),
        act: |a| attach(a, 1),
        holds: |a| belongs(a, 1),
        ..PLAIN
    },
    Operation {
        name: "attach again",
        prepare: |a| attached(a),
        act: |a| attach(a, 1),
        touches: &[],
        holds: |a| belongs(a, 1),
        ..PLAIN
    },
    Operation {
        name: "attach read-only",
        prepare: |a| {
            Box::pin(async move { drop(a.create(1, "db", &[("access", "read-only")]).await) })
        },
        act: |a| {
            Box::pin(async move {
                let (caller, once, wait) = (a.caller(1), call(REQUEST), Duration::ZERO);
                let engine = a.engine_of(1);
                let address = volume("db");
                let got = engine.attach(&caller, &once, &address, true, wait);
                Ok(format!("epoch {}", got.await?.epoch))
            })
        },
        holds: |a| {
            Box::pin(async move {
                let view = a.get(1, "db").await.unwrap();
                assert!(view.ownership.is_owned_by(a.vm(1)));
                assert!(a.world.writers(&disk(&view)).is_empty(), "read-only");
            })
        },
        ..PLAIN
    },
    Operation {
        name: "attach what a VM that is off has",
        prepare: |a| {
            Box::pin(async move {
                attached(a).await;
                a.world.power(a.vm(1), Power::Off);
            })
        },
        act: |a| attach(a, 2),
        holds: |a| belongs(a, 2),
        ..PLAIN
    },
    Operation {
        name: "detach",
        prepare: |a| attached(a),
        act: |a| {
            Box::pin(async move {
                let (id, epoch) = a.held("db");
                a.try_detach(1, REQUEST, id, epoch).await?;
                Ok("let go".to_owned())
            })
        },
        holds: |a| exists(a, "db"),
        ..PLAIN
    },
    Operation {
        name: "detach of an attachment that is over",
        prepare: |a| {
            Box::pin(async move {
                attached(a).await;
                let first = a.held("db");
                a.try_detach(1, 1, first.0, first.1).await.unwrap();
                let got = a.try_attach(2, 2, "db", Duration::ZERO).await;
                got.unwrap();
            })
        },
        act: |a| {
            Box::pin(async move {
                let (id, epoch) = a.held("db");
                let did = a.try_detach(1, REQUEST, id, epoch).await?;
                Ok(format!("change: {}", did.is_change()))
            })
        },
        touches: &[],
        holds: |a| belongs(a, 2),
        ..PLAIN
    },
    Operation {
        name: "begin format",
        prepare: |a| attached(a),
        act: |a| Box::pin(async move { Ok(begin_format(a, REQUEST).await?.to_string()) }),
        touches: &[],
        holds: |a| {
            Box::pin(async move {
                let view = a.get(1, "db").await.unwrap();
                let state = view.filesystem.state;
                assert!(
                    matches!(state, FilesystemState::Formatting { .. }),
                    "{state:?}"
                );
            })
        },
        ..PLAIN
    },
    Operation {
        name: "finish format",
        prepare: |a| {
            Box::pin(async move {
                attached(a).await;
                let uuid = begin_format(a, 5).await.unwrap();
                *a.kept.borrow_mut() = uuid.to_string();
            })
        },
        act: |a| {
            Box::pin(async move {
                let (id, epoch) = a.held("db");
                let uuid = Uuid::parse_str(&a.kept.borrow()).unwrap();
                let (caller, once) = (a.caller(1), call(REQUEST));
                let engine = a.engine_of(1);
                let done = engine.finish_format(&caller, &once, id, epoch, uuid);
                done.await?;
                Ok("ready".to_owned())
            })
        },
        touches: &[],
        holds: |a| {
            Box::pin(async move {
                let view = a.get(1, "db").await.unwrap();
                let state = view.filesystem.state;
                assert!(matches!(state, FilesystemState::Ready { .. }), "{state:?}");
            })
        },
        ..PLAIN
    },
    Operation {
        name: "inventory",
        prepare: |a| attached(a),
        act: |a| {
            Box::pin(async move {
                let (volume, epoch) = a.held("db");
                let item = InventoryItem {
                    volume,
                    epoch,
                    mounted: true,
                };
                let caller = a.caller(1);
                let told = a.engine_of(1).report_inventory(&caller, &[item]).await?;
                // What it does not mention is unknown, never gone.
                Ok(format!("superseded: {:?}", told.superseded))
            })
        },
        touches: &[],
        holds: |a| belongs(a, 1),
        ..PLAIN
    },
];
