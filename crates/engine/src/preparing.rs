//! VMs made ready for volumes beforehand, by an administrator.

use tokio::time::Instant;
use vdvs_domain::Error;

use crate::api::{Actor, LocalUser};
use crate::inner::Inner;
use crate::keyed::Key;
use crate::ports::{HostError, Prepared, Vm};

/// VMs of one request. More are another request.
const MOST: usize = 256;
/// SCSI controllers of a VM.
const CONTROLLERS: u32 = 4;

impl Inner {
    /// Prepares VMs of this host, one after the other. All are found before the first is changed.
    pub(crate) async fn admin_prepare(
        &self,
        user: &LocalUser,
        words: &[String],
        controllers: u32,
        deadline: Instant,
    ) -> Result<Vec<String>, Error> {
        let invalid = |what, problem| Err(Error::Invalid { what, problem });
        if words.is_empty() || words.len() > MOST {
            return invalid("VMs", format!("name 1 to {MOST} VMs"));
        }
        if !(1..=CONTROLLERS).contains(&controllers) {
            return invalid(
                "controllers",
                format!("a VM has 1 to {CONTROLLERS}, not {controllers}"),
            );
        }
        let failed = |why: HostError| Error::HostFailed {
            verb: "prepare a VM",
            why: why.to_string(),
        };
        let all = self.ports.host.vms().await.map_err(failed)?;
        let mut chosen: Vec<&Vm> = Vec::new();
        for word in words {
            chosen.push(named(&all, word)?);
        }
        let mut lines = Vec::new();
        for vm in chosen {
            let _queue = self.keys.hold(Key::Vm(vm.id.clone()), "prepare").await;
            let done = self.ports.host.prepare(&vm.id, controllers, deadline).await;
            let line = told(vm, &done.map_err(failed)?);
            self.audit(
                Actor::Admin(user),
                "prepare",
                vm.name.clone(),
                None,
                line.clone(),
            )
            .await;
            lines.push(line);
        }
        Ok(lines)
    }
}

/// The one VM of this name or instance UUID.
fn named<'a>(all: &'a [Vm], word: &str) -> Result<&'a Vm, Error> {
    let is_it =
        |vm: &&Vm| vm.name == word || vm.id.instance_uuid.to_string().eq_ignore_ascii_case(word);
    let mut found = all.iter().filter(is_it);
    let problem = match (found.next(), found.next()) {
        (Some(vm), None) => return Ok(vm),
        (None, _) => {
            format!("'{word}' is not registered on this host; 'vdvs vm ls' shows the VMs there are")
        }
        (Some(one), Some(other)) => format!(
            "'{word}' is {} and {}; name it by its instance UUID",
            one.id.config_path, other.id.config_path
        ),
    };
    Err(Error::Invalid {
        what: "VM",
        problem,
    })
}

fn told(vm: &Vm, done: &Prepared) -> String {
    let cycle = match done.needs_power_cycle {
        true => "; its guest sees disks' UUIDs after it was powered off and on",
        false => "",
    };
    let name = &vm.name;
    match (done.added, done.enabled_uuid) {
        (0, false) => format!("{name} was ready: {} controllers", done.controllers),
        (0, true) => format!("{name} is ready: {} controllers{cycle}", done.controllers),
        (added, _) => format!(
            "{name} is ready: {} controllers, {added} of them new{cycle}",
            done.controllers
        ),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vdvs_domain::VmId;

    use super::*;
    use crate::ports::Power;

    fn vm(name: &str, number: u128) -> Vm {
        Vm {
            id: VmId {
                instance_uuid: Uuid::from_u128(number),
                config_path: format!("[ds] {number}/vm.vmx"),
            },
            name: name.to_owned(),
            power: Power::On,
            home: None,
        }
    }

    #[test]
    fn a_vm_is_named_without_doubt_or_not_at_all() {
        let all = [vm("a", 1), vm("b", 2), vm("b", 3)];
        assert_eq!(named(&all, "a").unwrap().id, all[0].id);
        let by_uuid = Uuid::from_u128(3).to_string().to_uppercase();
        assert_eq!(named(&all, &by_uuid).unwrap().id, all[2].id);
        let two = named(&all, "b").unwrap_err().to_string();
        assert!(
            two.contains("[ds] 2/vm.vmx") && two.contains("[ds] 3/vm.vmx"),
            "{two}"
        );
        assert!(
            named(&all, "c")
                .unwrap_err()
                .to_string()
                .contains("vdvs vm ls")
        );
    }
}
