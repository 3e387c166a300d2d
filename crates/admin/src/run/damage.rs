//! `vdvs fsck`

use super::changes::Changes;
use super::print::{Printer, stderr};
use super::{DECLINED, connect, watch};
use crate::agent::Agent;
use crate::args::{Fsck, Global};
use crate::failure::Failure;
use crate::ops::fsck::{self, Ask};
use crate::ops::work;
use crate::progress::Line;
use crate::render::{Text, printable};
use crate::view::Damage;

pub(super) async fn run(what: &Fsck, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    let which = what.listing.arrangement()?;
    let mut ask = Ask {
        datastore: what.datastore.as_deref(),
        repair: false,
        nobody_has: &what.nobody_has,
    };
    let changes = Changes { global, printer };
    if what.repair {
        changes.askable("repair what is damaged")?;
    }
    let mut agent = connect(global).await?;
    if what.repair && !global.yes {
        let damage = to_the_end(&mut agent, &ask).await?;
        let repairable = match what.nobody_has.is_empty() {
            true => damage.repairable(),
            false => damage.repairable().max(what.nobody_has.len()),
        };
        if repairable == 0 {
            let damage = fsck::arranged(damage, &which)?;
            printer.print(&damage)?;
            return Ok(damage.exit_code());
        }
        stderr(&printable(&damage.text(None)));
        let question = "Repair what can be repaired? Damaged files are kept beside it.";
        if !changes.agreed(question)? {
            return Ok(DECLINED);
        }
    }
    ask.repair = what.repair;
    let damage = fsck::arranged(to_the_end(&mut agent, &ask).await?, &which)?;
    printer.print(&damage)?;
    Ok(damage.exit_code())
}

/// Waits for what was begun, and shows how far it is.
async fn to_the_end(agent: &mut Agent, ask: &Ask<'_>) -> Result<Damage, Failure> {
    let begun = match fsck::begin(agent, ask).await? {
        Ok(damage) => return Ok(damage),
        Err(begun) => begun,
    };
    let mut line = Line::default();
    let id = begun.id.clone();
    let ended = watch(begun.clone(), work::wait(agent, begun, &mut line)).await;
    line.wipe();
    ended?;
    fsck::report(agent, &id).await
}
