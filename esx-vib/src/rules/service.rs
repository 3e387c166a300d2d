//! P-6 and P-7: the init script's header, and the file by which the host shows and controls the service.

use std::str;

use super::Findings;
use crate::payload::{INIT, SERVICE};
use crate::vib::Vib;
use crate::xml::{document, elements, text};

pub(super) fn check(vib: &Vib, found: &mut Findings) {
    let init = vib
        .file(INIT)
        .map(|e| e.data.as_slice())
        .unwrap_or_default();
    let init = str::from_utf8(init).unwrap_or_default();
    found.must(
        init.lines().nth(1) == Some("# chkconfig: on 90 90"),
        "P-6",
        || format!("{INIT}: its second line does not say when it starts"),
    );
    for action in ["start", "stop", "restart", "status"] {
        found.must(init.contains(action), "P-6", || {
            format!("{INIT} does not know '{action}'")
        });
    }
    let service = vib.file(SERVICE).map(|e| e.data.as_slice());
    let service = service.unwrap_or_default();
    let parsed = document("the service's file", service);
    let fields = parsed.as_ref().ok().and_then(|document| {
        let service = elements(document.root_element()).next()?;
        let names: Vec<_> = elements(service).map(|n| n.tag_name().name()).collect();
        Some((names, text(service, "initfilename").to_owned()))
    });
    let (names, init) = fields.unwrap_or_default();
    let wanted = [
        "id",
        "initfilename",
        "ruleset",
        "required",
        "packagename",
        "packagedescription",
    ];
    found.must(names == wanted, "P-7", || {
        format!("{SERVICE} has {names:?}, not {wanted:?}")
    });
    found.must(INIT == format!("etc/init.d/{init}"), "P-7", || {
        format!("{SERVICE} controls '{init}', not {INIT}")
    });
    let mut paths = vib.entries().map(|entry| &entry.path);
    found.must(!paths.any(|path| path.contains("firewall")), "P-7", || {
        "there is no IP port, so there is nothing to open in a firewall".to_owned()
    });
}
