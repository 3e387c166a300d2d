//! Room that is on its way back: who asks for it meanwhile gets it, and is not told that there is none.

use std::time::Duration;

use tokio::join;
use tokio::time::sleep;
use vdvs_host_sim::Fault;

use crate::quota::{SIZE, Three};

/// One slow call of the host that removes; how many of them the removal makes does not matter here.
const CALLS: u64 = 40;

#[tokio::test(start_paused = true)]
async fn who_asks_while_a_removal_gives_room_back_waits_for_it() {
    let mut met = 0;
    for call in 0..CALLS {
        let three = Three::new(&["ds"]).await;
        three.limit(&["ds"], Some(2 * SIZE)).await;
        three.create(0, "old", "64mb").await.unwrap();
        let slow = Fault::Slow(Duration::from_secs(1));
        three.agents[0].session.plan(call, slow);
        let asker = async {
            sleep(Duration::from_millis(300)).await;
            let listing = three.engine(1).admin_volumes().await.unwrap();
            let begun = listing.volumes.iter().any(|v| v.operation.is_some());
            let meets = begun && three.used("ds") == 2 * SIZE;
            (meets, three.create(1, "new", "64mb").await)
        };
        let ((), (meets, made)) = join!(three.delete(0, "old@ds"), asker);
        if meets {
            met += 1;
            assert!(made.is_ok(), "call {call} of the removal slow: {made:?}");
        }
        three.judge(&["ds"], "in the end").await;
    }
    assert!(met > 0, "nobody asked in the middle of a removal");
}
