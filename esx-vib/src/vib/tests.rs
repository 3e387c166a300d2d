use super::*;
use crate::payload::{self, Programs};

fn about(acceptance: Acceptance) -> About {
    payload::about("0.1.0", 7, 1_795_271_000, acceptance).unwrap()
}

fn files() -> Vec<File> {
    payload::files(Programs {
        agent: b"agent".repeat(100),
        cli: b"cli".to_vec(),
        plugin: b"<plugin/>".to_vec(),
        licence: b"licence".to_vec(),
        third_party: Vec::new(),
    })
}

fn package() -> Vec<u8> {
    build(&about(Acceptance::Community), &files(), b"").unwrap()
}

#[test]
fn a_package_says_what_is_in_it() {
    let vib = Vib::read(&package()).unwrap();
    let Descriptor {
        name,
        version,
        release_date,
        acceptance,
        ..
    } = &vib.descriptor;
    assert_eq!((name.as_str(), version.as_str()), ("vdvs", "0.1.0-1.0.7"));
    assert_eq!(release_date, "2026-11-21T14:23:20+00:00");
    assert_eq!((acceptance.as_str(), vib.signature.len()), ("community", 0));
    assert_eq!(vib.descriptor.id(), "vDVS_bootbank_vdvs_0.1.0-1.0.7");
    assert_eq!(vib.descriptor.files.len(), files().len());
    for file in files() {
        let entry = vib.file(&file.path).unwrap();
        assert_eq!((entry.mode, &entry.data), (file.mode, &file.data));
    }
    assert!(
        vib.entries()
            .any(|e| e.path == "opt/vdvs/" && e.mode == 0o755)
    );
}

#[test]
fn the_same_files_in_any_order_are_the_same_package() {
    let mut turned = files();
    turned.reverse();
    let again = build(&about(Acceptance::Community), &turned, b"").unwrap();
    assert_eq!(again, package());
}

#[test]
fn only_a_signature_makes_more_of_a_package_than_community() {
    let unsigned = pack(&about(Acceptance::Partner), &files()).unwrap();
    assert_eq!(unsigned.sign(b""), Err(BuildError::Unsigned("partner")));
    let vib = Vib::read(&unsigned.sign(b"made elsewhere").unwrap()).unwrap();
    assert_eq!(vib.signature, b"made elsewhere");
    assert_eq!(vib.descriptor.acceptance, "partner");
    // What is signed is what is there afterwards.
    assert_eq!(vib.descriptor_xml.into_bytes(), unsigned.descriptor);
}

#[test]
fn every_changed_byte_of_a_payload_is_noticed() {
    let package = package();
    let Unsigned { payload, .. } = pack(&about(Acceptance::Community), &files()).unwrap();
    let start = package.len() - payload.len() - payload.len() % 2;
    for at in (start..start + payload.len()).step_by(37) {
        let mut damaged = package.clone();
        damaged[at] ^= 0x10;
        assert!(Vib::read(&damaged).is_err(), "byte {at}");
    }
    for end in 0..package.len() - 1 {
        assert!(Vib::read(&package[..end]).is_err(), "{end}");
    }
}

#[test]
fn each_checksum_is_compared() {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Unsigned {
        descriptor,
        payload,
        ..
    } = pack(&about(Acceptance::Community), &files()).unwrap();
    let unpacked = gzip::unpack(&payload).unwrap();
    for hex in [
        digest::sha256(&payload),
        digest::sha256(&unpacked),
        digest::sha1(&unpacked),
    ] {
        let wrong = text(&descriptor).replace(&hex, &"0".repeat(hex.len()));
        assert_ne!(wrong, text(&descriptor));
        let bytes = ar::write(&[
            (DESCRIPTOR, wrong.as_bytes()),
            (SIGNATURE, b""),
            ("vdvs", &payload),
        ]);
        let refused = Vib::read(&bytes.unwrap()).unwrap_err();
        assert!(matches!(refused, ReadError::Differs { .. }), "{refused}");
        assert!(refused.to_string().contains(&hex), "{refused}");
    }
}

#[test]
fn names_for_the_boot_bank_are_short_and_small() {
    for name in ["", "vdvs-agent", "VDVS", "toolongname"] {
        let about = About {
            name: name.to_owned(),
            ..about(Acceptance::Community)
        };
        let refused = pack(&about, &[]);
        assert!(matches!(refused, Err(BuildError::Name { .. })), "{name}");
    }
}
