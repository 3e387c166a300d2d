use std::collections::BTreeMap;

use super::*;
use crate::descriptor::Acceptance;
use crate::error::ReadError;
use crate::payload::{self, Programs};
use crate::{vib, zip};

fn package(build: u64) -> Vec<u8> {
    let about = payload::about("0.1.0", build, 1_795_271_000, Acceptance::Community).unwrap();
    let files = payload::files(Programs {
        agent: b"agent".to_vec(),
        cli: b"cli".to_vec(),
        plugin: b"<plugin/>".to_vec(),
        licence: b"licence".to_vec(),
        third_party: Vec::new(),
    });
    vib::build(&about, &files, b"").unwrap()
}

fn component() -> Component {
    Component {
        vendor_code: payload::VENDOR_CODE.to_owned(),
        title: payload::TITLE.to_owned(),
    }
}

fn bundle() -> Vec<u8> {
    write(&component(), &package(7)).unwrap()
}

#[test]
fn the_index_leads_to_the_package() {
    let bundle = Bundle::read(&bundle()).unwrap();
    assert_eq!(bundle.vendor, ("vDVS".to_owned(), "vdvs".to_owned()));
    assert_eq!(bundle.releases, RELEASES);
    let [bulletin] = &bundle.bulletins[..] else {
        panic!("{:?}", bundle.bulletins)
    };
    let component = ("vdvs".to_owned(), "0.1.0-1.0.7".to_owned());
    assert_eq!(bulletin.component, Some(component));
    assert_eq!(bulletin.id, "vdvs-0.1.0-1.0.7");
    let place = "vib20/vdvs/vDVS_bootbank_vdvs_0.1.0-1.0.7.vib";
    assert!(
        bundle.packages.contains_key(place),
        "{:?}",
        bundle.packages.keys()
    );
    assert!(
        bundle
            .metadata
            .contains_key("bulletins/vdvs-0.1.0-1.0.7.xml")
    );
}

#[test]
fn the_same_package_gives_the_same_bundle() {
    assert_eq!(bundle(), bundle());
}

/// The bundle with some files changed.
fn changed(change: impl Fn(&mut BTreeMap<String, Vec<u8>>)) -> Vec<u8> {
    let mut files = zip::read(&bundle()).unwrap();
    change(&mut files);
    zip::write(&files.into_iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_package_that_is_not_the_one_described_is_refused() {
    assert!(Bundle::read(&changed(|_| ())).is_ok());
    let other = changed(|files| {
        let place = "vib20/vdvs/vDVS_bootbank_vdvs_0.1.0-1.0.7.vib";
        files.insert(place.to_owned(), package(8));
    });
    let refused = Bundle::read(&other).unwrap_err();
    assert!(matches!(refused, ReadError::Differs { .. }), "{refused}");
    for gone in ["index.xml", "vendor-index.xml", "metadata.zip", ".vib"] {
        let less = changed(|files| files.retain(|name, _| !name.ends_with(gone)));
        let refused = Bundle::read(&less).unwrap_err();
        assert!(
            matches!(refused, ReadError::Missing { .. }),
            "{gone}: {refused}"
        );
    }
}

#[test]
fn a_vendor_needs_a_code() {
    for code in ["", "vDVS", "a b"] {
        let component = Component {
            vendor_code: code.to_owned(),
            ..component()
        };
        assert!(write(&component, &package(1)).is_err(), "{code}");
    }
    assert!(write(&component(), b"no package").is_err());
}
