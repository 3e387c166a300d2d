//! What differs, and what became of it. On a terminal each finding is a paragraph whose command stands in one line, to be
//! copied; without one it is a line.

use super::{MARK, Text, one_line, or_none, printable, table};
use crate::time::span;
use crate::view::{Checkup, Finding, Repaired, Repairs};

/// Width of the names before the facts, with what separates them.
const INDENT: usize = 10;
/// Less is not wrapped any further.
const NARROWEST: usize = 30;

/// A fact under its name, in lines that fit.
fn fact(name: &str, text: &str, width: u16) -> String {
    let room = usize::from(width).saturating_sub(INDENT).max(NARROWEST);
    let text = one_line(text);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let head = if at == 0 { name } else { "" };
        out += &format!("  {head:<8}{line}\n");
    }
    out
}

fn since(f: &Finding) -> String {
    let seen = if f.since_seen {
        ", when it was seen first"
    } else {
        ""
    };
    match f.since {
        None => "not known".to_owned(),
        Some(_) => format!("{} ago{seen}", span(f.age_seconds)),
    }
}

fn paragraph(f: &Finding, width: u16) -> String {
    let mark = if f.is_data() {
        format!(" {MARK}")
    } else {
        String::new()
    };
    let mut out = format!("{}  {}{mark}\n", f.name, one_line(&f.object));
    out += &fact("what", &f.text, width);
    out += &fact("since", &since(f), width);
    out += &fact("risk", &format!("{}: {}", f.risk, f.danger), width);
    if let Some(repair) = &f.repair {
        out += &fact("repair", repair, width);
    }
    // One line, however long it is.
    out + &format!("  {:<8}{}\n\n", "to act", one_line(&f.command))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

impl Checkup {
    fn summary(&self) -> String {
        let data = self.findings.iter().filter(|f| f.is_data()).count();
        let found = match (self.findings.len(), data) {
            (0, _) => "nothing found".to_owned(),
            (n, 0) => counted(n, "finding", "findings"),
            (n, data) => format!(
                "{}, {data} with data at risk",
                counted(n, "finding", "findings")
            ),
        };
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        format!(
            "{found}; host {} looked at {}, {} and {}\n",
            printable(&self.host),
            counted(count(self.volumes), "volume", "volumes"),
            counted(count(self.vms), "VM of its own", "VMs of its own"),
            counted(count(self.other_hosts), "other host", "other hosts"),
        )
    }
}

impl Text for Checkup {
    fn text(&self, width: Option<u16>) -> String {
        let mut out = String::new();
        match width {
            Some(width) => out.extend(self.findings.iter().map(|f| paragraph(f, width))),
            None if self.findings.is_empty() => {}
            None => {
                let row = |f: &Finding| {
                    vec![
                        f.risk.clone(),
                        f.name.clone(),
                        f.object.clone(),
                        or_none(f.since.as_deref()),
                        f.text.clone(),
                        f.command.clone(),
                    ]
                };
                let header = ["RISK", "NAME", "OBJECT", "SINCE", "FOUND", "COMMAND"];
                out += &table(&header, &[], self.findings.iter().map(row).collect(), None);
            }
        }
        out + &self.summary()
    }
}

impl Text for Repairs {
    fn text(&self, width: Option<u16>) -> String {
        if self.repaired.is_empty() {
            return "nothing to repair: there are no such findings\n".to_owned();
        }
        let row = |r: &Repaired| {
            let mark = if r.stands() && r.outcome != "would" {
                " !"
            } else {
                ""
            };
            vec![
                format!("{}{mark}", r.outcome),
                r.object.clone(),
                r.text.clone(),
            ]
        };
        let header = ["OUTCOME", "OBJECT", ""];
        let mut out = table(&header, &[], self.repaired.iter().map(row).collect(), width);
        for r in self.repaired.iter().filter(|r| r.outcome == "refused") {
            if let Some(command) = &r.command {
                out += &super::marked(&format!("{}: {command}", r.object));
            }
        }
        out
    }
}
