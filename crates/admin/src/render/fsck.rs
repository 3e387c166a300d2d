//! Damage on datastores: a table of what, and below it what is to be done about each.

use super::{Text, columns, marked, one_line};
use crate::view::{Damage, Damaged, LookedAt, Tabular};

/// What it is about: the volume, or else the file.
fn about(f: &Damaged) -> String {
    let place = format!("[{}] {}", f.datastore, f.path);
    f.volume.clone().unwrap_or(place)
}

fn looked(l: &LookedAt) -> String {
    let ds = one_line(&l.datastore);
    match &l.unread {
        Some(why) => marked(&format!("{ds} could not be looked at: {why}")),
        None => format!(
            "{ds}: {} records, {} name claims and {} disks looked at\n",
            l.records, l.claims, l.disks
        ),
    }
}

impl Damage {
    fn summary(&self) -> String {
        let of = |state: &str| self.findings.iter().filter(|f| f.state == state).count();
        let (repairable, repaired, left) = (of("repairable"), of("repaired"), of("left"));
        let mut parts = Vec::new();
        let mut part = |n: usize, what: &str| {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        };
        part(repaired, "repaired");
        part(repairable, "can be repaired with: vdvs fsck --repair");
        part(left, "left to a person, or to time");
        match parts.is_empty() {
            true => "nothing is damaged\n".to_owned(),
            false => parts.join("; ") + "\n",
        }
    }
}

impl Text for Damage {
    fn text(&self, width: Option<u16>) -> String {
        let mut out = String::new();
        if !self.findings.is_empty() {
            let shown = [
                ("datastore", "DATASTORE"),
                ("name", "NAME"),
                ("state", "STATE"),
                ("volume", "VOLUME"),
                ("what", "WHAT"),
            ];
            out += &columns(&self.grid(), &shown, width);
            for f in &self.findings {
                let text = format!("{} {}: {}", f.name, about(f), f.action);
                out += &match f.is_repaired() {
                    true => format!("  {}\n", one_line(&text)),
                    false => marked(&text),
                };
            }
        }
        out.extend(self.looked.iter().map(looked));
        out + &self.summary()
    }
}
