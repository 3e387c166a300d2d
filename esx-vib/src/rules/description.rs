//! P-3 and P-5: the descriptor's form, and that no reboot is asked for.

use std::collections::BTreeSet;

use super::Findings;
use crate::descriptor::{Acceptance, ORDER, Version};
use crate::error::ReadError;
use crate::payload::ORIGINAL;
use crate::tar::Kind;
use crate::vib::{DESCRIPTOR, Vib};
use crate::xml::{document, elements};

pub(super) fn check(vib: &Vib, found: &mut Findings) -> Result<(), ReadError> {
    let of = &vib.descriptor;
    let document = document(DESCRIPTOR, vib.descriptor_xml.as_bytes())?;
    let root = document.root_element();
    found.must(root.attribute("version") == Some("5.0"), "P-3", || {
        "the descriptor's own version is not 5.0".to_owned()
    });
    let names: Vec<&str> = elements(root).map(|n| n.tag_name().name()).collect();
    found.must(names == ORDER, "P-3", || {
        format!("the descriptor has {names:?}, not {ORDER:?}")
    });
    found.must(of.kind == "bootbank", "P-3", || {
        format!("its type is {}, not bootbank", of.kind)
    });
    found.must(Version::new(of.version.as_str()).is_ok(), "P-3", || {
        format!("version {} is not x.y.z-a.b.c", of.version)
    });
    found.must(Acceptance::parse(&of.acceptance).is_some(), "P-3", || {
        format!("'{}' is no acceptance level", of.acceptance)
    });
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    found.must(word(&of.vendor) && word(&of.name), "P-3", || {
        format!("vendor '{}' or name '{}' is no word", of.vendor, of.name)
    });
    let listed: BTreeSet<&str> = of.files.iter().map(String::as_str).collect();
    let there: BTreeSet<&str> = vib
        .entries()
        .filter(|e| e.kind != Kind::Folder)
        .map(|e| e.path.as_str())
        .collect();
    found.must(
        listed == there && listed.len() == of.files.len(),
        "P-3",
        || {
            let odd: Vec<_> = listed.symmetric_difference(&there).collect();
            format!("the list of files and the payload differ in {odd:?}")
        },
    );
    let versioned = |name: &str| {
        let mut depends = of.relationships.depends.iter();
        depends.any(|c| c.name == name && c.version.is_some())
    };
    found.must(versioned("esx-version"), "P-3", || {
        "it does not say which ESXi it needs".to_owned()
    });
    let conflicts = &of.relationships.conflicts;
    found.must(conflicts.iter().any(|c| c.name == ORIGINAL), "P-3", || {
        format!("it could be installed beside {ORIGINAL}, which has the same port")
    });
    found.must(of.live_install && of.live_remove, "P-5", || {
        "installing or removing it would ask for a reboot".to_owned()
    });
    found.must(!of.maintenance_mode, "P-5", || {
        "VMs would have to leave the host first".to_owned()
    });
    found.must(!of.overlay && !of.cimom_restart, "P-5", || {
        "it lies over files of others, or restarts CIM".to_owned()
    });
    Ok(())
}
