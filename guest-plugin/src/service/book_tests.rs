//! Decisions of the book.

use vdvs_domain::VolumeAddress;

use super::*;

fn address(text: &str) -> VolumeAddress {
    VolumeAddress::parse(text).unwrap()
}

#[test]
fn a_short_name_means_a_volume_on_any_datastore_and_a_full_name_only_its_own() {
    let full = address("v@vsanDatastore");
    assert!(means(&address("v"), &full));
    assert!(means(&address("v@VSANDATASTORE"), &full));
    assert!(!means(&address("v@other"), &full));
    assert!(!means(&address("w"), &full));
    assert!(!means(&address("v@ds"), &address("v")));
}

#[test]
fn an_unmount_of_what_is_not_held_is_unknown() {
    let mut book = Book::default();
    let id = VolumeId::new(Default::default());
    assert_eq!(book.uncount(id, "a"), Uncounted::Unknown);
    assert!(!book.count(id, "a", Timestamp::default()));
    assert_eq!(book.version, 0);
}
