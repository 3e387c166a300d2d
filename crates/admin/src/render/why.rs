//! What a volume waits for, and its story.

use super::{NONE, Text, marked, one_line, or_none, pairs, table};
use crate::view::{Event, Why};

impl Text for Why {
    fn text(&self, width: Option<u16>) -> String {
        let mut out = format!("{}\n", one_line(&self.headline));
        let facts = [
            ("Proof", &self.proof),
            ("Resolves", &self.resolves),
            ("To act", &self.command),
        ];
        let facts = facts
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)));
        out += &pairs(&facts.collect::<Vec<_>>());
        if !self.events.is_empty() {
            let row = |e: &Event| {
                let times = match e.count {
                    0 | 1 => String::new(),
                    n => format!(" ({n} times)"),
                };
                vec![
                    or_none(e.at.as_deref()),
                    e.host.clone(),
                    format!("{}{times}", e.kind),
                    or_none(e.who.as_deref()),
                    match e.epoch {
                        0 => NONE.to_owned(),
                        epoch => epoch.to_string(),
                    },
                    e.text.clone(),
                ]
            };
            let header = ["TIME", "HOST", "WHAT", "WHO", "EPOCH", ""];
            out.push('\n');
            out += &table(&header, &[4], self.events.iter().map(row).collect(), width);
        }
        for missing in &self.missing {
            out += &marked(&format!("not the whole story: {missing}"));
        }
        out
    }
}
