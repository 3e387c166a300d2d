//! Writing.

use std::fmt::Write as _;

use super::{Constraint, Descriptor};
use crate::xml::escape;

impl Descriptor {
    /// As the archive holds it.
    #[must_use]
    pub fn render(&self) -> String {
        self.rendered("")
    }

    /// As a bundle holds it: with the place, size and SHA-256 of the package itself.
    #[must_use]
    pub fn render_for_depot(&self, place: &str, size: u64, sha256: &str) -> String {
        self.rendered(&format!(
            "  <relative-path>{}</relative-path>\n  <packed-size>{size}</packed-size>\n  \
             <checksum checksum-type=\"sha-256\">{sha256}</checksum>\n",
            escape(place)
        ))
    }

    fn rendered(&self, behind: &str) -> String {
        let mut out = "<vib version=\"5.0\">\n".to_owned();
        let mut element = |name: &str, text: &str| {
            writeln!(out, "  <{name}>{}</{name}>", escape(text)).expect("a String grows");
        };
        element("type", &self.kind);
        element("name", &self.name);
        element("version", &self.version);
        element("vendor", &self.vendor);
        element("summary", &self.summary);
        element("description", &self.description);
        element("release-date", &self.release_date);
        let urls = self.urls.iter();
        let urls = urls
            .map(|(key, url)| format!("    <url key=\"{}\">{}</url>\n", escape(key), escape(url)));
        out += &list("  ", "urls", urls);
        out += &self.relations();
        let tags = self.tags.iter();
        let tags = tags.map(|tag| format!("    <tag>{}</tag>\n", escape(tag)));
        out += &list("  ", "software-tags", tags);
        let mode = self.maintenance_mode;
        out += &format!(
            "  <system-requires>\n    <maintenance-mode>{mode}</maintenance-mode>\n  </system-requires>\n"
        );
        let files = self.files.iter();
        let files = files.map(|file| format!("    <file>{}</file>\n", escape(file)));
        out += &list("  ", "file-list", files);
        let level = escape(&self.acceptance);
        out += &format!("  <acceptance-level>{level}</acceptance-level>\n");
        for (name, value) in [
            ("live-install-allowed", self.live_install),
            ("live-remove-allowed", self.live_remove),
            ("cimom-restart", self.cimom_restart),
            ("stateless-ready", self.stateless_ready),
            ("overlay", self.overlay),
        ] {
            out += &format!("  <{name}>{value}</{name}>\n");
        }
        out += &self.payloads_element();
        out + behind + "</vib>\n"
    }

    fn relations(&self) -> String {
        let all = &self.relationships;
        let parts = [
            ("depends", &all.depends),
            ("conflicts", &all.conflicts),
            ("replaces", &all.replaces),
            ("provides", &all.provides),
            ("compatibleWith", &all.compatible_with),
        ];
        let parts =
            parts.map(|(name, constraints)| list("    ", name, constraints.iter().map(constraint)));
        list("  ", "relationships", parts.into_iter())
    }

    fn payloads_element(&self) -> String {
        let payloads = self.payloads.iter().map(|payload| {
            let checksums: String = payload
                .checksums
                .iter()
                .map(|sum| {
                    let process = sum.process.as_ref().map_or_else(String::new, |process| {
                        format!(" verify-process=\"{}\"", escape(process))
                    });
                    format!(
                        "      <checksum checksum-type=\"{}\"{process}>{}</checksum>\n",
                        escape(&sum.kind),
                        escape(&sum.hex)
                    )
                })
                .collect();
            format!(
                "    <payload name=\"{}\" type=\"{}\" size=\"{}\">\n{checksums}    </payload>\n",
                escape(&payload.name),
                escape(&payload.kind),
                payload.size
            )
        });
        list("  ", "payloads", payloads)
    }
}

fn constraint(constraint: &Constraint) -> String {
    let version = constraint
        .version
        .as_ref()
        .map_or_else(String::new, |(relation, version)| {
            format!(
                " relation=\"{}\" version=\"{}\"",
                escape(relation),
                escape(version)
            )
        });
    let name = escape(&constraint.name);
    format!("      <constraint name=\"{name}\"{version}/>\n")
}

fn list(indent: &str, name: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.collect();
    if items.is_empty() {
        format!("{indent}<{name}/>\n")
    } else {
        format!("{indent}<{name}>\n{items}{indent}</{name}>\n")
    }
}
