//! An administrator's commands, as the command line gives them to the engine of a host.

use std::mem::forget;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::RequestId;
use vdvs_engine::api::{AdminSet, Call, LocalUser};

use crate::schedule::{Admin, Dice};
use crate::universe::Universe;

/// The command line waits as long for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs one command on a host, as far as an agent runs there. Its answer is not judged: what it did is.
pub async fn administer(
    universe: Universe,
    host: usize,
    volume: String,
    what: Admin,
    mut dice: Dice,
) {
    let Some(engine) = universe.engine(host) else {
        return;
    };
    let user = LocalUser {
        name: "root".to_owned(),
        uid: Some(0),
    };
    let half = u128::from(dice.any());
    let call = Call {
        request: RequestId::new(Uuid::from_u128((half << 64) | u128::from(dice.any()))),
        deadline: Instant::now() + PATIENCE,
        cancel: CancellationToken::new(),
    };
    let checker = universe.checker();
    let removal = matches!(what, Admin::Remove).then(|| checker.removing(&volume));
    let run = async {
        match what {
            Admin::Look => {
                let status = engine.admin_status().await.is_ok();
                let volumes = engine.admin_volumes().await.is_ok();
                let vms = engine.admin_vms().await.is_ok();
                format!("{}", status && volumes && vms)
            }
            Admin::Take => format!(
                "{:?}",
                engine.admin_take(&user, &call, &volume, false).await
            ),
            Admin::TakeByForce => {
                checker.may_fence(&volume);
                checker.forced(&volume, true);
                let answer = engine.admin_take(&user, &call, &volume, true).await;
                let said = format!("{answer:?}");
                let unproven = said.contains("nothing proves");
                checker.forced(&volume, unproven);
                said
            }
            Admin::Remove => {
                let answer = engine.admin_remove(&user, &call, &volume).await;
                if answer.is_ok() {
                    checker.removed(&volume);
                }
                format!("{answer:?}")
            }
            Admin::SetFailover(fence) => {
                if fence {
                    checker.may_fence(&volume);
                }
                let failover = if fence { "fence" } else { "wait" };
                let set = AdminSet {
                    options: [("failover".to_owned(), failover.to_owned())].into(),
                    ..AdminSet::default()
                };
                format!("{:?}", engine.admin_set(&user, &volume, &set).await)
            }
        }
    };
    // An agent that dies never answers.
    let answer = timeout(PATIENCE * 2, run).await;
    if answer.is_err() {
        // Nor is it known then when what it does is over.
        forget(removal);
    }
    universe.note(format_args!(
        "administrator on host {host}: {what:?} {volume}: {}",
        answer.unwrap_or_else(|_| "no answer".to_owned())
    ));
}
