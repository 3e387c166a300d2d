//! Folders that are not listed in one moment, as large ones are not: what is replaced meanwhile is there all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use vdvs_engine::Engine;
use vdvs_engine::api::Settings;
use vdvs_host_sim::Fault;

use crate::hosts::Two;

const NO_WAIT: Duration = Duration::ZERO;
/// Rounds of an agent that knows nothing yet, each at another moment of the changes.
const ROUNDS: u64 = 200;

/// An agent that was just started, with calls that take time.
fn new_agent(two: &Two) -> Arc<Engine> {
    let session = two.near.world.session(two.near.host);
    session.plan_always(Some(Fault::Slow(Duration::from_millis(10))));
    Engine::new(session.ports(), Settings::default())
}

/// The volume `db`, attached by one VM and given back, again and again, though not during each of two listings in a row.
async fn busy() -> (Arc<Two>, JoinSet<()>) {
    let two = Two::new().quiet();
    two.near.create(1, "db").await;
    two.near.world.list_in_parts();
    let two = Arc::new(two);
    let (user, mut tasks) = (Arc::clone(&two), JoinSet::new());
    tasks.spawn(async move {
        loop {
            let got = user.attach_far(1, NO_WAIT).await.unwrap();
            sleep(Duration::from_millis(61)).await;
            user.detach_far(1, &got).await;
            sleep(Duration::from_millis(53)).await;
        }
    });
    (two, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_record_changes_while_its_folder_is_listed_is_in_the_list() {
    let (two, _tasks) = busy().await;
    for round in 0..ROUNDS {
        sleep(Duration::from_millis(round % 37)).await;
        let listed = new_agent(&two).admin_volumes().await.unwrap().volumes;
        let names: Vec<_> = listed.iter().map(|v| v.view.name.to_string()).collect();
        assert_eq!(names, ["db"], "round {round}");
    }
}
