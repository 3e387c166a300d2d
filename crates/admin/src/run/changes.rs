//! Changes: the question before what cannot be undone, the wait for long work, and the answer.

use std::io;

use rustix::stdio;
use rustix::termios::isatty;
use vdvs_api::v1;
use vdvs_domain::ErrorKind;
use vdvs_domain::capacity::human;

use super::print::{Printer, stderr};
use super::{DECLINED, connect, watch};
use crate::agent::Agent;
use crate::args::Global;
use crate::arrange::Arrangement;
use crate::confirm;
use crate::failure::Failure;
use crate::ops::{group, volume, work};
use crate::progress::Line;
use crate::render::printable;
use crate::view::{Changed, Volume};

/// How many names a question lists.
const NAMED: usize = 10;

/// What changes have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes<'a> {
    pub(super) global: &'a Global,
    pub(super) printer: &'a Printer,
}

impl Changes<'_> {
    /// Waits for what a change began, and prints what it did.
    pub(super) async fn end(
        &self,
        agent: &mut Agent,
        changed: Result<Changed, Failure>,
    ) -> Result<u8, Failure> {
        let changed = changed?;
        let changed = match changed.work.clone() {
            None => changed,
            Some(begun) => {
                let mut line = Line::default();
                let end = watch(begun, work::follow(agent, changed, &mut line)).await;
                line.wipe();
                end?
            }
        };
        self.printer.changed(&changed)
    }

    /// Whether the command line said yes, or a person can.
    pub(super) fn can_ask(&self) -> bool {
        self.global.yes || isatty(stdio::stdin())
    }

    /// Refuses when a person has to be asked and there is none.
    pub(super) fn askable(&self, what: &str) -> Result<(), Failure> {
        if self.can_ask() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "nobody can be asked whether to {what}: there is no terminal. Nothing was changed; say --yes to do it"
            ),
        ))
    }

    /// Asks, unless the command line said yes. False: the answer was no.
    pub(super) fn agreed(&self, question: &str) -> Result<bool, Failure> {
        if self.global.yes {
            return Ok(true);
        }
        let question = printable(question);
        let agreed = confirm::ask(&mut io::stdin().lock(), &mut io::stderr(), &question)
            .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot ask: {e}")))?;
        if !agreed {
            stderr("nothing was changed\n");
        }
        Ok(agreed)
    }

    /// `vdvs volume rm`
    pub(super) async fn remove_volume(&self, address: &str) -> Result<u8, Failure> {
        self.askable(&format!("remove {address}"))?;
        let mut agent = connect(self.global).await?;
        let target = if self.global.yes {
            address.to_owned()
        } else {
            let v = volume::inspect(&mut agent, address).await?.volume;
            if !self.agreed(&format!("Remove {} and all its data?", described(&v)))? {
                return Ok(DECLINED);
            }
            // By id: exactly the volume that was shown, whatever took its name meanwhile.
            v.id
        };
        self.printer
            .print(&volume::remove(&mut agent, &target).await?)
    }

    /// `vdvs volume detach`
    pub(super) async fn detach_volume(&self, address: &str, force: bool) -> Result<u8, Failure> {
        if force {
            self.askable(&format!("take {address} from a VM that may use it"))?;
        }
        let mut agent = connect(self.global).await?;
        let mut target = address.to_owned();
        if force && !self.global.yes {
            let v = volume::inspect(&mut agent, address).await?.volume;
            let question = format!(
                "Take {} from VM {}? What the VM has not written yet is lost, and its containers get I/O errors.",
                described(&v),
                v.attached_to()
            );
            if !self.agreed(&question)? {
                return Ok(DECLINED);
            }
            target = v.id;
        }
        let changed = volume::detach(&mut agent, &target, force).await;
        self.end(&mut agent, changed).await
    }

    /// `vdvs volume protect` and `unprotect`
    pub(super) async fn protect(&self, address: &str, on: bool) -> Result<u8, Failure> {
        let mut agent = connect(self.global).await?;
        let changed = volume::protect(&mut agent, address, on).await;
        self.end(&mut agent, changed).await
    }

    /// `vdvs vmgroup rm`
    pub(super) async fn remove_group(
        &self,
        name: &str,
        remove_volumes: bool,
        force: bool,
    ) -> Result<u8, Failure> {
        self.askable(&format!("remove vmgroup {name}"))?;
        let mut agent = connect(self.global).await?;
        if !self.global.yes {
            let question = self
                .group_question(&mut agent, name, remove_volumes)
                .await?;
            if !self.agreed(&question)? {
                return Ok(DECLINED);
            }
        }
        let message = v1::RemoveGroup {
            name: name.to_owned(),
            remove_volumes,
            force,
        };
        let changed = group::remove(&mut agent, message).await;
        self.end(&mut agent, changed).await
    }

    async fn group_question(
        &self,
        agent: &mut Agent,
        name: &str,
        remove_volumes: bool,
    ) -> Result<String, Failure> {
        let found = group::show(agent, name).await?;
        let who = if found.everybody_else {
            "every VM that no other vmgroup names; they may use no volumes then".to_owned()
        } else {
            format!("{} VMs", found.members.len())
        };
        if !remove_volumes {
            return Ok(format!("Remove vmgroup {name} ({who})?"));
        }
        let only = Arrangement {
            filters: vec![("vmgroup".to_owned(), name.to_owned())],
            sort: Vec::new(),
        };
        let list = volume::list(agent, "*", &only).await?;
        let named: Vec<_> = list.volumes.iter().take(NAMED).map(described).collect();
        let more = match list.volumes.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        Ok(format!(
            "Remove vmgroup {name} ({who}), its {} volumes and all their data?\n  {}{more}\n",
            list.volumes.len(),
            named.join("\n  ")
        ))
    }
}

fn described(v: &Volume) -> String {
    format!(
        "volume {}@{} of group {} ({}, {} used, {})",
        v.name,
        v.datastore,
        v.group,
        human(v.size_bytes),
        human(v.used_bytes),
        v.state
    )
}
