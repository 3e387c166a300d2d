//! vSAN policies.

use super::{Text, columns, marked};
use crate::view::{Policy, Tabular};

impl Text for Vec<Policy> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no policies\n".to_owned();
        }
        let shown = [
            ("name", "Policy Name"),
            ("content", "Policy Content"),
            ("active", "Active"),
        ];
        let mut out = columns(&self.grid(), &shown, width);
        for p in self.iter().filter(|p| p.outdated > 0) {
            out += &marked(&format!(
                "{}: {} of {} volumes still have an older content; apply it to them by saying the update again: vdvs policy update",
                p.name, p.outdated, p.volumes
            ));
        }
        out
    }
}
