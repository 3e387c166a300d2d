//! The configuration document.

use super::{Text, columns, marked};
use crate::view::{Config, ConfigChange, Tabular};

impl Text for Config {
    fn text(&self, width: Option<u16>) -> String {
        let or_na = |text: &Option<String>| text.clone().unwrap_or_else(|| "N/A".to_owned());
        // The original's three lines, to the letter.
        let mut out = format!(
            "DB_Mode: {}\nDB_LocalPath: {}\nDB_SharedLocation: {}\n",
            self.mode,
            or_na(&self.local_path),
            or_na(&self.shared_location)
        );
        if !self.documents.is_empty() {
            let shown = [
                ("home", "KEPT ON"),
                ("version", "VERSION"),
                ("groups", "VMGROUPS"),
                ("policies", "POLICIES"),
                ("changed", "CHANGED"),
                ("by", "BY"),
            ];
            out.push('\n');
            out += &columns(&self.documents.grid(), &shown, width);
            for d in self.documents.iter().filter(|d| d.kept) {
                out += &marked(&format!(
                    "{}: cannot be read now; this is the copy kept on this host",
                    d.home
                ));
            }
        }
        if !self.datastores.is_empty() {
            let shown = [
                ("datastore", "DATASTORE"),
                ("state", "STATE"),
                ("home", "GOVERNED FROM"),
            ];
            out.push('\n');
            out += &columns(&self.datastores.grid(), &shown, width);
            for d in &self.datastores {
                if let Some(problem) = &d.problem {
                    out += &marked(&format!("{}: {problem}", d.datastore));
                }
            }
        }
        out
    }
}

impl Text for Vec<ConfigChange> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no changes\n".to_owned();
        }
        let shown = [
            ("version", "VERSION"),
            ("time", "TIME"),
            ("who", "WHO"),
            ("host", "HOST"),
            ("what", "WHAT"),
        ];
        columns(&self.grid(), &shown, width)
    }
}
