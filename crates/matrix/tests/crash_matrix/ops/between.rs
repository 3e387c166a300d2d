//! What one host wants of another: claims, fences, takeovers.

use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::Error;
use vdvs_engine::ports::Power;

use super::{Doing, Operation, PLAIN};
use crate::agree;
use crate::arena::{Arena, CONTENT, REQUEST, Side, call, disk, root};

type Said = Result<String, Error>;

const BOTH: &[Side] = &[Side::Far, Side::Near];
const WAIT: Duration = Duration::from_secs(60);
/// As short as it can be, so that the matrix is.
const FENCE: &[(&str, &str)] = &[("failover", "fence"), ("fence-after", "1s")];

const TWO: Operation = Operation {
    struck: BOTH,
    actor: Some(Side::Far),
    running: true,
    act: |a| take_over(a),
    holds: |a| belongs_to_far(a),
    ..PLAIN
};

async fn held(a: &Arena, options: &[(&str, &str)]) {
    let made = a.create(1, "db", options).await;
    a.attach(1, "db").await;
    a.world.use_disk(a.vm(1), &disk(&made), true);
}

fn take_over<'a>(a: &'a Arena) -> Doing<'a, Said> {
    Box::pin(async move {
        let got = a.try_attach(4, REQUEST, "db", WAIT).await?;
        Ok(format!("epoch {}", got.epoch))
    })
}

/// The guest, asked or not, lets go after a while, and says so until somebody hears.
async fn guest_lets_go(a: &Arena) {
    sleep(Duration::from_secs(1)).await;
    let (id, epoch) = a.held("db");
    let disk = disk(&a.held.borrow()["db"].view);
    a.world.use_disk(a.vm(1), &disk, false);
    loop {
        let session = a.session(Side::Near);
        let done = tokio::select! {
            biased;
            () = session.died() => None,
            done = a.try_detach(1, 300, id, epoch) => Some(done),
        };
        if let Some(Ok(_)) = done {
            return;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

fn belongs_to_far<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        let view = a.get(4, "db").await.unwrap();
        assert!(view.ownership.is_owned_by(a.vm(4)), "{:?}", view.ownership);
        assert_eq!(a.world.writers(&disk(&view)), ["vm4"]);
        assert_eq!(a.world.read_disk(&disk(&view)), Some(CONTENT));
    })
}

async fn take(a: &Arena, side: Side, force: bool) -> Said {
    let (user, once) = (root(), call(REQUEST));
    let engine = a.engine(side);
    let taken = engine.admin_take(&user, &once, "db", force).await?;
    drop(taken);
    Ok("taken".to_owned())
}

fn nobodys<'a>(a: &'a Arena) -> Doing<'a, ()> {
    Box::pin(async move {
        assert_eq!(agree::owner_of(a, "db"), None);
    })
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "claim, and the guest lets go",
        prepare: |a| Box::pin(held(a, &[])),
        act: |a| {
            Box::pin(async move {
                let (got, ()) = tokio::join!(take_over(a), guest_lets_go(a));
                got
            })
        },
        ..TWO
    },
    Operation {
        name: "fence",
        prepare: |a| Box::pin(held(a, FENCE)),
        ..TWO
    },
    Operation {
        name: "takeover from a VM of another host that is off",
        prepare: |a| {
            Box::pin(async move {
                held(a, &[]).await;
                a.world.power(a.vm(1), Power::Off);
            })
        },
        ..TWO
    },
    Operation {
        name: "takeover from a dead host",
        struck: &[Side::Far],
        touches: &["db", "used"],
        prepare: |a| {
            Box::pin(async move {
                held(a, &[]).await;
                a.world.crash_host(a.host(Side::Near));
                a.kill(Side::Near);
            })
        },
        ..TWO
    },
    Operation {
        name: "takeover from a host that is cut off",
        struck: &[Side::Far],
        touches: &["db", "used"],
        later: false,
        prepare: |a| {
            Box::pin(async move {
                held(a, &[]).await;
                a.world.cut_off(a.host(Side::Near), true);
            })
        },
        ..TWO
    },
    Operation {
        name: "a VM is started on another host",
        struck: &[Side::Far],
        actor: None,
        prepare: |a| {
            Box::pin(async move {
                held(a, &[]).await;
                a.world.crash_host(a.host(Side::Near));
                a.kill(Side::Near);
                // Its locks lapse.
                a.pass(6).await;
            })
        },
        act: |a| {
            Box::pin(async move {
                let (vm, far) = (a.vm(1), a.host(Side::Far));
                if a.world.host_of(vm) != Some(far) {
                    a.world.register(vm, far);
                    assert!(a.world.power(vm, Power::On));
                    a.world.leave_registered(vm, a.host(Side::Near));
                }
                let moved = || agree::host_of(a, "db") == Some(a.host(Side::Far));
                agree::until(a, "the record follows", moved).await;
                Ok("followed".to_owned())
            })
        },
        touches: &["used"],
        holds: |a| {
            Box::pin(async move {
                assert_eq!(agree::owner_of(a, "db").as_deref(), Some("vm1"));
                assert_eq!(agree::host_of(a, "db"), Some(a.host(Side::Far)));
            })
        },
        ..TWO
    },
    Operation {
        name: "detach by an administrator",
        actor: Some(Side::Near),
        struck: &[Side::Near],
        running: false,
        prepare: |a| Box::pin(held(a, &[])),
        act: |a| {
            Box::pin(async move {
                let (got, ()) = tokio::join!(take(a, Side::Near, false), guest_lets_go(a));
                got
            })
        },
        holds: |a| nobodys(a),
        ..TWO
    },
    Operation {
        name: "detach --force",
        actor: Some(Side::Near),
        struck: &[Side::Near],
        running: false,
        prepare: |a| Box::pin(held(a, &[])),
        act: |a| Box::pin(take(a, Side::Near, true)),
        holds: |a| nobodys(a),
        ..TWO
    },
    Operation {
        name: "detach --force from another host",
        prepare: |a| Box::pin(held(a, &[])),
        act: |a| Box::pin(take(a, Side::Far, true)),
        holds: |a| nobodys(a),
        ..TWO
    },
];
