//! Long work.

use super::{Text, marked, one_line, or_none, table};
use crate::view::Work;

impl Text for Vec<Work> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no long work\n".to_owned();
        }
        let row = |w: &Work| {
            vec![
                w.id.clone(),
                w.what.clone(),
                w.state.clone(),
                w.percent()
                    .map_or_else(|| w.done.to_string(), |p| format!("{p} %")),
                or_none(w.started_at.as_deref()),
            ]
        };
        let header = ["ID", "WHAT", "STATE", "DONE", "STARTED"];
        let mut out = table(&header, &[3], self.iter().map(row).collect(), width);
        for w in self {
            if let Some(error) = &w.error {
                out += &marked(&format!("{}: {error}", w.id));
            }
        }
        out
    }
}

impl Text for Work {
    fn text(&self, _: Option<u16>) -> String {
        let far = self
            .percent()
            .filter(|_| self.runs())
            .map(|p| format!(", {p} %"));
        let state = format!(
            "{}: {}{}\n",
            one_line(&self.what),
            one_line(&self.state),
            far.unwrap_or_default()
        );
        let lines = self.lines.iter().map(|l| one_line(l) + "\n");
        lines.chain([state]).collect()
    }
}
