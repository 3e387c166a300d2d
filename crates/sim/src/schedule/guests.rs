//! What goes wrong in guests: their plugin, their dockerd, their own disk, their connection, their clock.

use tokio::time::sleep;

use super::stage::Stage;
use super::step::{Link, Step};
use crate::guest::{JournalFault, LinkFault};

impl Stage<'_> {
    /// Carries out a step that concerns one guest; false: it is none.
    pub(super) fn guest_trouble(&mut self, step: &Step) -> bool {
        let universe = self.universe;
        match *step {
            Step::KillPlugin(vm, down) => universe.kill_plugin(self.vm(vm), down),
            Step::StopPlugin(vm, down) => {
                let (vm, later) = (self.vm(vm), universe.clone());
                universe.spawn(async move { later.stop_plugin(vm, down).await });
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
                universe.spawn(async move {
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
            Link::Cut => self.universe.cut_link(vm, true),
            Link::Mend => self.universe.cut_link(vm, false),
        }
    }
}
