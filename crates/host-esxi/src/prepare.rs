//! Making a VM ready for volumes beforehand: `disk.EnableUUID`, so that the guest sees disks' UUIDs, and PVSCSI
//! controllers, since adding one to a running VM stuns it for a moment.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_domain::VmId;
use vdvs_engine::ports::{HostError, Power, Prepared};
use vdvs_vim::{ConfigSpec, ControllerKind, DeviceChange, Hardware};

use crate::faults;
use crate::host::EsxHost;
use crate::place::free_bus;

/// Has the guest see disks' UUIDs.
const ENABLE_UUID: &str = "disk.EnableUUID";
/// Before the same is tried once more.
const PAUSE: Duration = Duration::from_millis(200);
/// A temporary key; hostd gives the device its own.
const KEY: i32 = -101;

impl EsxHost {
    pub(crate) async fn make_ready(
        &self,
        id: &VmId,
        controllers: u32,
        deadline: Instant,
    ) -> Result<Prepared, HostError> {
        let _turn = self.queues.turn(id, deadline).await?;
        let mut done = Prepared::default();
        loop {
            let vm = self.find(id, deadline).await?;
            let hardware = self.hardware(&vm, deadline).await?;
            done.controllers = count(&hardware);
            let spec = match next(&hardware, controllers) {
                Some(spec) => spec,
                None => return Ok(done),
            };
            let client = &self.esx.client;
            let changed = match client.reconfig_vm(&vm.object, &spec, deadline).await {
                Ok(task) => client.finish(&task, |_| (), deadline).await.map(drop),
                Err(why) => Err(why),
            };
            match changed {
                Err(why)
                    if faults::is_worth_another_try(&why) && Instant::now() + PAUSE < deadline =>
                {
                    sleep(PAUSE).await;
                    continue;
                }
                other => other.map_err(|e| faults::host(&e, &vm.vm.name, ""))?,
            }
            match spec.devices.is_empty() {
                true => {
                    done.enabled_uuid = true;
                    done.needs_power_cycle |= vm.vm.power != Power::Off;
                }
                false => done.added += 1,
            }
        }
    }
}

fn count(hardware: &Hardware) -> u32 {
    let ours = hardware
        .controllers()
        .filter(|c| c.kind == ControllerKind::ParaVirtual);
    u32::try_from(ours.count()).unwrap_or(u32::MAX)
}

/// The next change a VM needs; none: it is ready.
fn next(hardware: &Hardware, controllers: u32) -> Option<ConfigSpec> {
    let on = hardware
        .extra(ENABLE_UUID)
        .is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
    if !on {
        return Some(ConfigSpec {
            extra_config: vec![(ENABLE_UUID.to_owned(), "TRUE".to_owned())],
            ..ConfigSpec::default()
        });
    }
    if count(hardware) >= controllers {
        return None;
    }
    let bus = free_bus(hardware)?;
    Some(ConfigSpec::device(DeviceChange::AddParaVirtual {
        key: KEY,
        bus,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_is_ready_is_left_alone() {
        let mut ready = Hardware::default();
        assert!(next(&ready, 0).is_some(), "EnableUUID is missing");
        ready
            .extra_config
            .push((ENABLE_UUID.to_owned(), "true".to_owned()));
        assert_eq!(next(&ready, 0), None);
        let more = next(&ready, 2).unwrap();
        assert_eq!(
            more.devices,
            [DeviceChange::AddParaVirtual { key: KEY, bus: 0 }]
        );
    }
}
