//! P-9: a bundle that vSphere Lifecycle Manager takes for a component of ESXi 7, 8 and 9.

use super::Findings;
use crate::bundle::{Bundle, RELEASES};

const RULE: &str = "P-9";

pub(super) fn check(bundle: &Bundle, found: &mut Findings) {
    let (name, code) = &bundle.vendor;
    found.must(!name.is_empty() && !code.is_empty(), RULE, || {
        "the vendor has no name or no code".to_owned()
    });
    found.must(bundle.releases == RELEASES, RULE, || {
        format!("it is offered to {:?}, not {RELEASES:?}", bundle.releases)
    });
    found.must(
        bundle.bulletins.len() == bundle.packages.len(),
        RULE,
        || "it has not one bulletin for each package".to_owned(),
    );
    for bulletin in &bundle.bulletins {
        let id = &bulletin.id;
        found.must(bulletin.platforms == RELEASES, RULE, || {
            format!("bulletin {id} is for {:?}", bulletin.platforms)
        });
        let at = |name: &str| bulletin.elements.iter().position(|e| e == name);
        let in_order = at("componentNameSpec") < at("componentVersionSpec")
            && at("componentVersionSpec") < at("releaseDate")
            && at("componentNameSpec").is_some();
        found.must(in_order, RULE, || {
            format!("bulletin {id} names no component before its date")
        });
        let mut versions = bundle
            .packages
            .values()
            .filter(|p| bulletin.packages.contains(&p.descriptor.id()))
            .map(|p| (&p.descriptor.name, &p.descriptor.version));
        let component = bulletin
            .component
            .as_ref()
            .map(|(name, version)| (name, version));
        found.must(versions.any(|v| Some(v) == component), RULE, || {
            format!("bulletin {id}: component {component:?} is none of its packages")
        });
    }
    for (place, package) in &bundle.packages {
        let of = &package.descriptor;
        let wanted = format!("vib20/{}/{}.vib", of.name, of.id());
        found.must(*place == wanted, RULE, || {
            format!("a package lies at {place}, not at {wanted}")
        });
    }
}
