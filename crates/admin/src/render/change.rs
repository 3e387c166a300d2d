//! What a change did.

use super::{Text, marked, one_line};
use crate::view::Changed;

impl Text for Changed {
    fn text(&self, _: Option<u16>) -> String {
        let lines = self.lines.iter().map(|l| one_line(l) + "\n");
        let message = Some(one_line(&self.message) + "\n").filter(|_| !self.message.is_empty());
        let warnings = self.warnings.iter().map(|w| marked(w));
        lines.chain(message).chain(warnings).collect()
    }
}
