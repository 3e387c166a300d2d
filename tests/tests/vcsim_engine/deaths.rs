//! hostd dies in the middle of every operation, before and after each of its calls took effect, and comes back.
//!
//! The request is repeated until it succeeds, as the plugin does it, and the witness says that it was done once.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use vdvs_domain::Error;
use vdvs_engine::api::Attached;
use vdvs_testkit::vcsim::Mode;

use crate::rig::{Agent, LONG, Rig, disk, fresh, until};

/// Where hostd dies: the call, and whether its effect is there.
const MOMENTS: [&str; 2] = ["before", "after"];

/// Runs `act` until it succeeds, while hostd dies at `moment` of `method` and is started again.
macro_rules! through_a_death {
    ($rig:ident, $moment:expr, $method:expr, $act:expr) => {{
        let (moment, method) = ($moment, $method);
        $rig.sim.order(&format!("{moment} {method} die")).unwrap();
        let Rig { sim, agent, .. } = &mut $rig;
        let deadline = Instant::now() + LONG;
        let again = async {
            loop {
                match timeout(LONG, $act(&*agent)).await.expect("an answer") {
                    Ok(done) => break done,
                    Err(why) => {
                        let why: Error = why;
                        assert!(Instant::now() < deadline, "{moment} {method}: {why}");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        let back = async {
            while !sim.is_dead().unwrap() {
                sleep(Duration::from_millis(10)).await;
            }
            sim.restart().unwrap();
        };
        let (done, died) = tokio::join!(again, timeout(LONG, back));
        died.unwrap_or_else(|_| panic!("{method} was not called"));
        done
    }};
}

async fn deaths(mode: Mode) {
    let Some(mut rig) = Rig::new(mode).await else {
        return;
    };
    rig.agent.create(0, "source", &[]).await;
    let mut number = 0;
    let mut name = || {
        number += 1;
        format!("v{number}")
    };

    for method in ["CreateVirtualDisk_Task", "SetVirtualDiskUuid"] {
        for moment in MOMENTS {
            let (name, request) = (name(), fresh());
            let view = through_a_death!(rig, moment, method, async |agent: &Agent| {
                agent
                    .try_create(0, request, &name, &[("size", "10mb")])
                    .await
            });
            assert_eq!(rig.files(&disk(&view)), (true, true), "{moment} {method}");
            assert_eq!(rig.agent.get(0, &name).await.unwrap().id, view.id);
        }
    }

    for moment in MOMENTS {
        let (name, request) = (name(), fresh());
        let view = through_a_death!(
            rig,
            moment,
            "CopyVirtualDisk_Task",
            async |agent: &Agent| {
                agent
                    .try_create(0, request, &name, &[("clone-from", "source")])
                    .await
            }
        );
        assert_eq!(rig.files(&disk(&view)), (true, true), "{moment} copy");
    }

    for moment in MOMENTS {
        let name = name();
        let view = rig.agent.create(0, &name, &[]).await;
        let request = fresh();
        let attached: Attached =
            through_a_death!(rig, moment, "ReconfigVM_Task", async |agent: &Agent| {
                agent.try_attach(0, request, &name, Duration::ZERO).await
            });
        rig.device(0, &view);
        let request = fresh();
        through_a_death!(rig, moment, "ReconfigVM_Task", async |agent: &Agent| {
            agent.try_detach(0, request, &attached).await
        });
        assert!(!rig.is_attached(0, &view), "{moment} detach");
        let request: Uuid = fresh();
        through_a_death!(
            rig,
            moment,
            "DeleteVirtualDisk_Task",
            async |agent: &Agent| {
                match agent.try_delete(0, request, &name).await {
                    // The sweep finished it meanwhile.
                    Err(Error::VolumeNotFound { .. }) => Ok(()),
                    other => other,
                }
            }
        );
        // What was begun is finished by whoever comes first.
        until("the delete", async || {
            rig.files(&disk(&view)) == (false, false)
        })
        .await;
    }

    // A look that breaks off is no effect at all.
    let view = rig.agent.create(0, "last", &[]).await;
    for moment in MOMENTS {
        let request = fresh();
        let attached = through_a_death!(
            rig,
            moment,
            "RetrievePropertiesEx",
            async |agent: &Agent| { agent.try_attach(1, request, "last", Duration::ZERO).await }
        );
        rig.device(1, &view);
        let list = through_a_death!(
            rig,
            moment,
            "RetrievePropertiesEx",
            async |agent: &Agent| {
                let done: Result<_, Error> = Ok(agent.list(0).await);
                // Files are read without hostd; its part is asked for as well.
                agent.try_detach(1, fresh(), &attached).await?;
                done
            }
        );
        assert!(list.contains(&"last".to_owned()), "{list:?}");
        assert!(!rig.is_attached(1, &view));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostd_may_die_in_the_middle_of_every_operation_on_a_host() {
    deaths(Mode::Esx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostd_may_die_in_the_middle_of_every_operation_through_a_vcenter() {
    deaths(Mode::Vcenter).await;
}
