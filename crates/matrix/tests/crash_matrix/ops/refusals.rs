//! What agents refuse, and what they must not believe: epochs that are over, requests that were others, proofs that are
//! none, callers that have gone; and a record that two hosts change.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use vdvs_domain::{Error, ErrorKind, FilesystemState};
use vdvs_engine::api::AdminSet;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use super::{Doing, NOTHING_LEFT, Operation, PLAIN};
use crate::agree;
use crate::arena::{Arena, REQUEST, Side, call, fresh, root, volume};

type Said = Result<String, Error>;

/// What was refused stays as it is.
const REFUSED: Operation = Operation {
    touches: &[],
    ..PLAIN
};

/// The VM has it again: its first attachment, which the preparation remembers, is over.
fn attached_again<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        a.create(1, "db", &[]).await;
        a.attach(1, "db").await;
        let again = a.try_attach(1, fresh(), "db", Duration::ZERO).await;
        again.unwrap();
    })
}

fn is_attached<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        assert_eq!(agree::owner_of(a, "db").as_deref(), Some("vm1"));
        let state = a.get(1, "db").await.unwrap().filesystem.state;
        assert!(matches!(state, FilesystemState::Never), "{state:?}");
    })
}

fn is_free<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        assert_eq!(agree::owner_of(a, "db"), None);
        assert!(a.world.devices(a.vm(1)).is_empty());
    })
}

/// The answer must be this refusal.
fn refused<T>(said: Result<T, Error>, kind: ErrorKind) -> Said {
    match said {
        Ok(_) => panic!("it was not refused"),
        Err(why) if why.kind() == kind => Ok("refused".to_owned()),
        Err(why) => Err(why),
    }
}

fn has_operation(a: &Arena) -> bool {
    let record = agree::record(a, "db");
    record.is_some_and(|record| record["operation"] != Value::Null)
}

/// Some of an administrator's settings, on one of the hosts.
async fn set(
    a: &Arena,
    side: Side,
    option: Option<(&str, &str)>,
    protect: Option<bool>,
) -> Result<(), Error> {
    let pair = option.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let set = AdminSet {
        options: pair.into_iter().collect(),
        protect,
        ..AdminSet::default()
    };
    a.engine(side).admin_set(&root(), "db", &set).await?;
    Ok(())
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "detach in an epoch that is over, while the VM has it again",
        prepare: |a| attached_again(a),
        act: |a| {
            Box::pin(async move {
                let (id, epoch) = a.held("db");
                let did = a.try_detach(1, REQUEST, id, epoch).await?;
                Ok(format!("change: {}", did.is_change()))
            })
        },
        holds: |a| is_attached(a),
        ..REFUSED
    },
    Operation {
        name: "begin format in an epoch that is over",
        prepare: |a| attached_again(a),
        act: |a| {
            Box::pin(async move {
                let (id, epoch) = a.held("db");
                let (caller, once, engine) = (a.caller(1), call(REQUEST), a.engine_of(1));
                let said = engine.begin_format(&caller, &once, id, epoch).await;
                refused(said, ErrorKind::Superseded)
            })
        },
        holds: |a| is_attached(a),
        ..REFUSED
    },
    Operation {
        name: "attach by a VM that is off",
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                a.world.power(a.vm(1), Power::Off);
            })
        },
        act: |a| {
            Box::pin(async move {
                let why = a.try_attach(1, REQUEST, "db", Duration::ZERO).await;
                let why = why.expect_err("it is off");
                if why.kind() == ErrorKind::HostFailed {
                    assert!(!has_operation(a), "{why}: an operation is left");
                    return Ok("refused".to_owned());
                }
                Err(why)
            })
        },
        holds: |a| is_free(a),
        ..REFUSED
    },
    Operation {
        name: "a request under the id of another one",
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                let got = a.try_attach(1, REQUEST, "db", Duration::ZERO).await;
                got.unwrap();
            })
        },
        act: |a| {
            Box::pin(async move {
                let (caller, once, engine) = (a.caller(1), call(REQUEST), a.engine_of(1));
                let address = volume("db");
                let said = engine.attach(&caller, &once, &address, true, Duration::ZERO);
                refused(said.await, ErrorKind::RequestMismatch)
            })
        },
        holds: |a| is_attached(a),
        ..REFUSED
    },
    Operation {
        name: "attach of a volume whose detach nobody finished",
        touches: &["db"],
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                a.attach(1, "db").await;
                let session = a.session(Side::Near);
                session.plan_at("detach", Fault::Crash(When::Before));
                let (id, epoch) = a.held("db");
                tokio::select! {
                    biased;
                    () = session.died() => {}
                    said = a.try_detach(1, 300, id, epoch) => panic!("{said:?}"),
                }
                assert!(has_operation(a), "a detach is begun there");
                a.renew(Side::Near);
            })
        },
        act: |a| {
            Box::pin(async move {
                if agree::owner_of(a, "db").as_deref() == Some("vm1") && !has_operation(a) {
                    // It was undone: the guest says it again.
                    let (id, epoch) = a.held("db");
                    a.try_detach(1, fresh(), id, epoch).await?;
                }
                // Who wants it finishes first what is under way.
                let got = a.try_attach(2, REQUEST, "db", Duration::ZERO).await?;
                Ok(format!("epoch {}", got.epoch))
            })
        },
        holds: |a| {
            Box::pin(async move {
                assert_eq!(agree::owner_of(a, "db").as_deref(), Some("vm2"));
            })
        },
        ..REFUSED
    },
    Operation {
        name: "takeover from a dead host while nobody can see locks, and when they are seen",
        struck: &[Side::Far],
        actor: Some(Side::Far),
        running: true,
        touches: &["db", "used"],
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                a.attach(1, "db").await;
                a.world.crash_host(a.host(Side::Near));
                a.kill(Side::Near);
            })
        },
        act: |a| {
            Box::pin(async move {
                if agree::owner_of(a, "db").as_deref() == Some("vm1") {
                    a.world.hide_locks(true);
                    // Longer than a lock must be seen to be free.
                    let wait = Duration::from_secs(7);
                    let said = a.try_attach(4, fresh(), "db", wait).await;
                    a.world.hide_locks(false);
                    assert!(said.is_err(), "what cannot be seen is no proof");
                }
                let wait = Duration::from_secs(20);
                let got = a.try_attach(4, REQUEST, "db", wait).await?;
                Ok(format!("epoch {}", got.epoch))
            })
        },
        holds: |a| {
            Box::pin(async move {
                assert_eq!(agree::owner_of(a, "db").as_deref(), Some("vm4"));
            })
        },
        ..REFUSED
    },
    Operation {
        name: "an attach whose caller has gone is undone",
        actor: None,
        touches: &["db"],
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                let session = a.session(Side::Near);
                session.plan_at("attach", Fault::Crash(When::After));
                tokio::select! {
                    biased;
                    () = session.died() => {}
                    said = a.try_attach(1, 300, "db", Duration::ZERO) => panic!("{said:?}"),
                }
                // Longer than anybody waits for an answer.
                a.pass(130).await;
                a.renew(Side::Near);
            })
        },
        act: |a| {
            Box::pin(async move {
                a.run();
                let free = || !has_operation(a) && a.world.devices(a.vm(1)).is_empty();
                agree::until(a, "it is undone", free).await;
                Ok("undone".to_owned())
            })
        },
        holds: |a| is_free(a),
        ..REFUSED
    },
    Operation {
        name: "a record that two hosts change",
        rivals: true,
        done: NOTHING_LEFT,
        prepare: |a| Box::pin(async move { drop(a.create(1, "db", &[]).await) }),
        act: |a| {
            Box::pin(async move {
                let near = set(a, Side::Near, Some(("access", "read-only")), None);
                let far = async {
                    sleep(Duration::from_secs(1)).await;
                    set(a, Side::Far, None, Some(true)).await?;
                    set(a, Side::Far, Some(("attach-as", "persistent")), None).await
                };
                let (near, far) = tokio::join!(near, far);
                near.and(far)?;
                Ok("set".to_owned())
            })
        },
        holds: |a| {
            Box::pin(async move {
                let found = a.engine(Side::Near).admin_inspect("db").await.unwrap();
                let options = format!("{:?}", found.volume.view.options);
                assert!(found.volume.protected, "protect is lost");
                for each in ["ReadOnly", "attach_as: Persistent"] {
                    assert!(options.contains(each), "{each} is lost: {options}");
                }
            })
        },
        ..REFUSED
    },
];
