//! The audit.

use super::{Text, one_line, or_none, table};
use crate::view::{AuditEntry, AuditList};

impl Text for AuditList {
    fn text(&self, width: Option<u16>) -> String {
        if self.entries.is_empty() {
            return "no changes and no denials\n".to_owned();
        }
        let row = |e: &AuditEntry| {
            let times = match e.count {
                0 | 1 => String::new(),
                n => format!(" ({n} times)"),
            };
            vec![
                e.number.to_string(),
                or_none(e.last.as_deref().or(e.at.as_deref())),
                e.who.clone(),
                e.verb.clone(),
                e.object.clone(),
                format!("{}{times}", e.outcome),
                or_none(e.detail.as_deref()),
            ]
        };
        let header = [
            "NUMBER", "TIME", "WHO", "VERB", "OBJECT", "OUTCOME", "DETAIL",
        ];
        let mut out = table(&header, &[0], self.entries.iter().map(row).collect(), width);
        if let (true, Some(last)) = (self.more, self.entries.last()) {
            out += &format!(
                "there are older ones: --before={} shows them, vdvs audit export prints all\n",
                last.number
            );
        }
        if !self.host.is_empty() {
            out += &format!("this is the audit of host {}\n", one_line(&self.host));
        }
        out
    }
}
