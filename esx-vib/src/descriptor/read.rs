//! Reading.

use roxmltree::Node;

use super::{Checksum, Constraint, Descriptor, PayloadInfo, Relationships};
use crate::error::ReadError;
use crate::xml::{child, document, elements, text};

const WHAT: &str = "descriptor.xml";
/// As many as an archive may have.
pub const MOST_FILES: usize = 10_000;
/// Real packages have one to three.
const MOST_PAYLOADS: usize = 32;

impl Descriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    /// [`ReadError`]: no XML, not a package, or without name, version, vendor or payloads.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let document = document(WHAT, bytes)?;
        let root = document.root_element();
        if root.tag_name().name() != "vib" {
            let name = root.tag_name().name();
            return Err(ReadError::malformed(WHAT, format!("<{name}> is no <vib>")));
        }
        let must = |name: &str| match text(root, name) {
            "" => Err(missing(format!("<{name}>"))),
            text => Ok(text.to_owned()),
        };
        let may = |name: &str| text(root, name).to_owned();
        let files: Vec<String> = items(root, "file-list", "file")
            .map(|n| n.text().unwrap_or_default().trim().to_owned())
            .collect();
        bounded(files.len(), MOST_FILES)?;
        let requires = child(root, "system-requires");
        Ok(Self {
            kind: must("type")?,
            name: must("name")?,
            version: must("version")?,
            vendor: must("vendor")?,
            summary: may("summary"),
            description: may("description"),
            release_date: may("release-date"),
            urls: items(root, "urls", "url")
                .map(|n| (attribute(n, "key"), n.text().unwrap_or_default().to_owned()))
                .collect(),
            relationships: child(root, "relationships")
                .map(relationships)
                .unwrap_or_default(),
            tags: items(root, "software-tags", "tag")
                .map(|n| n.text().unwrap_or_default().trim().to_owned())
                .collect(),
            maintenance_mode: requires.is_some_and(|n| truth(text(n, "maintenance-mode"))),
            files,
            acceptance: may("acceptance-level"),
            live_install: truth(text(root, "live-install-allowed")),
            live_remove: truth(text(root, "live-remove-allowed")),
            cimom_restart: truth(text(root, "cimom-restart")),
            stateless_ready: truth(text(root, "stateless-ready")),
            overlay: truth(text(root, "overlay")),
            payloads: payloads(root)?,
        })
    }
}

fn payloads(root: Node<'_, '_>) -> Result<Vec<PayloadInfo>, ReadError> {
    let payloads = items(root, "payloads", "payload");
    let payloads: Vec<PayloadInfo> = payloads.map(payload).collect::<Result<_, _>>()?;
    bounded(payloads.len(), MOST_PAYLOADS)?;
    Ok(payloads)
}

fn payload(node: Node<'_, '_>) -> Result<PayloadInfo, ReadError> {
    let size = attribute(node, "size");
    Ok(PayloadInfo {
        name: attribute(node, "name"),
        kind: attribute(node, "type"),
        size: size
            .parse()
            .map_err(|_| ReadError::malformed(WHAT, format!("'{size}' is no size")))?,
        checksums: elements(node)
            .filter(|n| n.tag_name().name() == "checksum")
            .map(|n| Checksum {
                kind: attribute(n, "checksum-type"),
                process: n
                    .attribute("verify-process")
                    .filter(|process| !process.is_empty())
                    .map(str::to_owned),
                hex: n.text().unwrap_or_default().trim().to_owned(),
            })
            .collect(),
    })
}

fn relationships(node: Node<'_, '_>) -> Relationships {
    let all = |name: &str| items(node, name, "constraint").map(constraint).collect();
    Relationships {
        depends: all("depends"),
        conflicts: all("conflicts"),
        replaces: all("replaces"),
        provides: all("provides"),
        compatible_with: all("compatibleWith"),
    }
}

fn constraint(node: Node<'_, '_>) -> Constraint {
    let version = node.attribute("relation").zip(node.attribute("version"));
    Constraint {
        name: attribute(node, "name"),
        version: version.map(|(relation, version)| (relation.to_owned(), version.to_owned())),
    }
}

fn items<'a, 'i>(
    node: Node<'a, 'i>,
    list: &str,
    item: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    child(node, list)
        .into_iter()
        .flat_map(elements)
        .filter(move |n| n.tag_name().name() == item)
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn truth(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

fn missing(part: String) -> ReadError {
    ReadError::Missing { what: WHAT, part }
}

fn bounded(found: usize, most: usize) -> Result<(), ReadError> {
    if found > most {
        return Err(ReadError::TooMany { what: WHAT, most });
    }
    Ok(())
}
