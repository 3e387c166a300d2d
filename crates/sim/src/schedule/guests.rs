//! What goes wrong in guests: their plugin, their dockerd, their own disk, their connection, their clock.

use std::time::Duration;

use tokio::time::sleep;

use super::stage::{Stage, any_name};
use super::step::{Link, Step};
use crate::guest::{JournalFault, LinkFault};
use crate::universe::Universe;

/// A container runs so long before its end is not heard of.
const BEFORE: Duration = Duration::from_secs(3);
/// And its successor so long.
const AFTER: Duration = Duration::from_secs(60);
/// So many requests of its end arrive late.
const MANY: u32 = 12;

impl Stage<'_> {
    /// Carries out a step that concerns one guest; false: it is none.
    pub(super) fn guest_trouble(&mut self, step: &Step) -> bool {
        let universe = self.universe;
        match *step {
            Step::KillPlugin(vm, down) => universe.kill_plugin(self.vm(vm), down),
            Step::StopPlugin(vm, down) => {
                let (vm, later) = (self.vm(vm), universe.clone());
                universe.spawn_affair(async move { later.stop_plugin(vm, down).await });
            }
            Step::KillDockerd(vm, down) => {
                let (vm, later) = (self.vm(vm), universe.clone());
                universe.guest(vm).kill_dockerd();
                universe.spawn(async move {
                    sleep(down).await;
                    later.guest(vm).start_dockerd();
                });
            }
            Step::LoseUnmounts(vm, times) => universe.guest(vm).lose_unmounts(times),
            Step::DelayUnmount(vm, by) => universe.guest(vm).delay_unmount(by),
            Step::CopyFrom(vm) => {
                let guest = universe.guest(vm).clone();
                universe.spawn_affair(async move {
                    if let Some((task, _)) = guest.holds().first() {
                        guest.copy_from(task).await;
                    }
                });
            }
            Step::Skew(vm, seconds) => universe.guest(vm).skew(seconds.saturating_mul(1000)),
            Step::Pin(vm, how_long) => {
                let (id, world) = (universe.vm_id(vm).clone(), universe.world().clone());
                let disks = world.devices(&id);
                for device in &disks {
                    world.pin(&id, &device.disk, true);
                }
                universe.spawn(async move {
                    sleep(how_long).await;
                    for device in &disks {
                        world.pin(&id, &device.disk, false);
                    }
                });
            }
            Step::GuestFull(vm, full) => universe.guest(vm).journal(JournalFault::Full(full)),
            Step::TearJournal(vm) => {
                let after = self.luck().below(4);
                universe.guest(vm).journal(JournalFault::Tear(after));
            }
            Step::Unreadable(vm, times) => universe.guest(vm).make_unreadable(times),
            Step::Stale(vm, volume, late) => {
                let later = universe.clone();
                let (vm, volume) = (self.vm(vm), any_name(volume));
                universe.spawn_affair(async move { stale(later, vm, volume, late).await });
            }
            Step::Link(vm, link) => self.link(self.vm(vm), link),
            _ => return false,
        }
        true
    }

    fn link(&self, vm: usize, link: Link) {
        let guest = self.universe.guest(vm);
        match link {
            Link::LoseRequests(times) => guest.link(LinkFault::LoseRequest, times),
            Link::LoseReplies(times) => guest.link(LinkFault::LoseReply, times),
            Link::Duplicate(times) => guest.link(LinkFault::Duplicate, times),
            Link::Delay(times, by) => guest.link(LinkFault::Delay(by), times),
            Link::Late(times, by) => guest.link(LinkFault::Late(by), times),
            Link::Cut => self.universe.cut_link(vm, true),
            Link::Mend => self.universe.cut_link(vm, false),
        }
    }
}

/// What a plugin asked for at a container's end arrives when its successor has the volume for the next container.
async fn stale(universe: Universe, vm: usize, volume: String, late: Duration) {
    let volumes = vec![volume];
    let guest = universe.guest(vm);
    if !universe.start_task(vm, "stale.1", &volumes).await {
        return;
    }
    sleep(BEFORE).await;
    guest.link(LinkFault::Late(late), MANY);
    let stop = universe.clone();
    universe.spawn(async move { stop.stop_task(vm, "stale.1").await });
    sleep(BEFORE).await;
    guest.link_again();
    universe.kill_plugin(vm, Duration::ZERO);
    guest.start_plugin();
    if universe.start_task(vm, "stale.2", &volumes).await {
        sleep(AFTER).await;
        universe.stop_task(vm, "stale.2").await;
    }
}
