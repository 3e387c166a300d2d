use super::*;
use crate::bundle::{self, Component};
use crate::descriptor::{Acceptance, Checksum};
use crate::elf::stand_in;
use crate::payload::{self, PLUGIN, Programs, SERVICE, SETTINGS};
use crate::vib::{self, File};
use crate::{ar, digest, gzip, tar};

/// One command with one parameter of each kind.
const DEFINITION: &str = r#"<plugin xmlns="http://www.vmware.com/Products/ESX/5.0/esxcli/"><version>1.0.0</version>
<namespaces><namespace path="storage.guestvol"><description>All</description></namespace></namespaces>
<commands><command path="storage.guestvol.status"><description>One</description>
<input-spec><parameter name="name" type="string" required="true"><description>N</description></parameter>
<parameter name="fast" type="flag" required="false"><description>F</description></parameter></input-spec>
<output-spec><string/></output-spec><format-parameters><formatter>simple</formatter></format-parameters>
<execute>/opt/vdvs/bin/vdvs esxcli status --name='$val{name}' $if{fast, --fast}</execute></command></commands></plugin>"#;

fn files() -> Vec<File> {
    payload::files(Programs {
        agent: stand_in("agent"),
        cli: stand_in("cli"),
        plugin: DEFINITION.as_bytes().to_vec(),
        licence: b"licence".to_vec(),
        third_party: b"others".to_vec(),
    })
}

fn broken(files: &[File]) -> Vec<String> {
    let about = payload::about("0.1.0", 7, 1_795_271_000, Acceptance::Community).unwrap();
    let bytes = vib::build(&about, files, b"").unwrap();
    texts(&package(&bytes).unwrap())
}

fn texts(broken: &[Broken]) -> Vec<String> {
    broken.iter().map(ToString::to_string).collect()
}

/// The package with one file changed.
fn with(path: &str, change: impl Fn(&mut File)) -> Vec<String> {
    let mut files = files();
    change(files.iter_mut().find(|f| f.path == path).unwrap());
    broken(&files)
}

#[test]
fn what_we_ship_breaks_no_rule() {
    assert_eq!(broken(&files()), Vec::<String>::new());
}

#[test]
fn a_file_where_no_package_may_put_one_is_named() {
    for path in [
        "etc/vdvs/vdvsd.toml",
        "bin/vdvs",
        "etc/rc.local.d/vdvs",
        "etc/vmware/secpolicy/tardisks/vdvs",
        "etc/init.d/other",
        "usr/lib/vmware/esxcli/int/vdvs.xml",
        "opt/vdvsd/x",
    ] {
        let mut files = files();
        files.push(File {
            path: path.to_owned(),
            mode: 0o444,
            data: Vec::new(),
        });
        let said = broken(&files);
        assert!(
            said.iter()
                .any(|s| s.starts_with("P-4") && s.contains(path)),
            "{said:?}"
        );
    }
}

#[test]
fn modes_say_what_is_kept_and_what_runs() {
    let said = with(SETTINGS, |f| f.mode = 0o644);
    assert!(said[0].starts_with("P-10"), "{said:?}");
    let said = with(PLUGIN, |f| f.mode = 0o1644);
    assert!(said[0].starts_with("P-10"), "{said:?}");
    let said = with(payload::AGENT, |f| f.mode = 0o4755);
    assert!(said[0].starts_with("P-4"), "{said:?}");
    let said = with(payload::AGENT, |f| f.mode = 0o444);
    assert_eq!(said, Vec::<String>::new());
    let said = with(payload::CLI, |f| f.mode = 0o444);
    assert!(said[0].starts_with("P-8"), "{said:?}");
    let said = with(payload::INIT, |f| f.mode = 0o444);
    assert!(said[0].starts_with("S-3"), "{said:?}");
}

#[test]
fn what_cannot_start_on_a_host_is_named() {
    let said = with(payload::AGENT, |f| f.data[16] = 3);
    assert!(
        said[0].starts_with("L-2") && said[0].contains("fixed address"),
        "{said:?}"
    );
    let said = with("opt/vdvs/bin/vmdkops_admin.py", |f| {
        f.data = b"#!/usr/bin/python\n".to_vec();
    });
    assert!(said[0].starts_with("S-3"), "{said:?}");
}

#[test]
fn an_init_script_without_header_and_a_service_of_another_are_named() {
    let said = with(payload::INIT, |f| f.data = b"#!/bin/sh\nstart\n".to_vec());
    assert!(
        said.iter().all(|s| s.starts_with("P-6")) && said.len() == 4,
        "{said:?}"
    );
    let said = with(SERVICE, |f| {
        let text = String::from_utf8(f.data.clone()).unwrap();
        f.data = text.replace("<initfilename>vdvs", "<initfilename>x").into();
    });
    assert_eq!(
        said,
        ["P-7: etc/vmware/service/vdvs.xml controls 'x', not etc/init.d/vdvs"]
    );
}

#[test]
fn a_command_that_hands_on_more_than_it_declares_is_named() {
    let change = |from: &str, to: &str| {
        assert!(DEFINITION.contains(from));
        with(PLUGIN, |f| f.data = DEFINITION.replace(from, to).into())
    };
    for (from, to, part) in [
        ("'$val{name}'", "$val{name}", "does not hand on"),
        (
            "'$val{name}' $if",
            "'$val{name}'; rm $if",
            "more than it declares",
        ),
        (
            "vdvs esxcli status",
            "vdvs esxcli `status`",
            "more than it declares",
        ),
        (
            "/opt/vdvs/bin/vdvs esxcli",
            "/bin/sh -c",
            "no program of this package",
        ),
        (
            "name=\"fast\" type=\"flag\"",
            "name=\"a b\" type=\"x\"",
            "parameter 'a b'",
        ),
        (
            "path=\"storage.guestvol\"",
            "path=\"storage\"",
            "no name space",
        ),
        ("<output-spec><string/></output-spec>", "", "output-spec"),
        ("Products/ESX", "Products/X", "no definition"),
    ] {
        let said = change(from, to);
        assert!(
            said.iter()
                .any(|s| s.starts_with("P-8") && s.contains(part)),
            "{to}: {said:?}"
        );
    }
}

/// A package whose archives somebody else made.
fn by_hand(descriptor: impl Fn(String) -> String, slash: bool) -> Vec<String> {
    let about = payload::about("0.1.0", 7, 1_795_271_000, Acceptance::Community).unwrap();
    let bytes = vib::build(&about, &files(), b"").unwrap();
    let members = ar::read(&bytes).unwrap();
    let text = descriptor(String::from_utf8(members[0].data.to_vec()).unwrap());
    let mut bytes = ar::write(&[
        (members[0].name, text.as_bytes()),
        (members[1].name, members[1].data),
        (members[2].name, members[2].data),
    ])
    .unwrap();
    if slash {
        let at = bytes.windows(11).position(|w| w == b"sig.pkcs7  ").unwrap();
        bytes[at + 9] = b'/';
    }
    texts(&package(&bytes).unwrap())
}

#[test]
fn the_descriptors_form_is_compared_with_what_hosts_expect() {
    let same = |text: String| text;
    assert_eq!(by_hand(same, false), Vec::<String>::new());
    assert!(by_hand(same, true)[0].starts_with("P-1: sig.pkcs7"));
    for (from, to, rule) in [
        ("  <type>bootbank</type>\n", "", "P-3"),
        ("bootbank", "locker", "P-3"),
        ("vib version=\"5.0\"", "vib version=\"6.0\"", "P-3"),
        ("<version>0.1.0-1.0.7", "<version>0.1.0", "P-3"),
        ("<file>etc/init.d/vdvs</file>", "", "P-3"),
        ("esx-version", "esx-base", "P-3"),
        ("esx-vmdkops-service", "other", "P-3"),
        (
            "<acceptance-level>community",
            "<acceptance-level>partner",
            "P-1",
        ),
        (
            "<live-install-allowed>true",
            "<live-install-allowed>false",
            "P-5",
        ),
        ("<maintenance-mode>false", "<maintenance-mode>true", "P-5"),
        ("<overlay>false", "<overlay>true", "P-5"),
        (" type=\"tgz\"", " type=\"vgz\"", "P-2"),
    ] {
        let said = if from.contains("<type>") {
            // Without it the descriptor is none; beside another element it is out of order.
            by_hand(
                |text| {
                    text.replace(from, "")
                        .replace("  <urls/>\n", &format!("{from}  <urls/>\n"))
                },
                false,
            )
        } else {
            by_hand(|text| text.replace(from, to), false)
        };
        assert!(said.iter().any(|s| s.starts_with(rule)), "{from}: {said:?}");
    }
    let less = by_hand(
        |text| {
            let lines = text.lines();
            let without = lines.filter(|l| !l.contains("\"sha-256\" verify-process"));
            without.map(|l| format!("{l}\n")).collect()
        },
        false,
    );
    assert_eq!(less, ["P-2: payload vdvs has no sha-256 gunzip"]);
}

/// A package as VMware's own tool makes it, in small: one line of descriptor, visor archive, sticky settings.
#[test]
fn a_package_of_vmwares_tool_is_read_and_told_apart() {
    let mut header = vec![0; 512];
    header[..9].copy_from_slice(b"opt/x/cfg");
    header[100..108].copy_from_slice(b"0001644\0");
    header[124..136].copy_from_slice(b"00000000002\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..264].copy_from_slice(b"visor  ");
    header[496..500].copy_from_slice(&1024_u32.to_le_bytes());
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let archive = [header, vec![0; 512], b"hi".to_vec()].concat();
    let payload = gzip::pack(&archive);
    let sums = [
        Checksum {
            kind: "sha-256".into(),
            process: None,
            hex: digest::sha256(&payload),
        },
        Checksum {
            kind: "sha-1".into(),
            process: Some("gunzip".into()),
            hex: digest::sha1(&archive),
        },
    ];
    let [packed, unpacked] = &sums;
    let descriptor = format!(
        "<vib version=\"5.0\"><type>bootbank</type><name>x</name><version>1.0.0-0.0.0</version><vendor>V</vendor>\
         <file-list><file>opt/x/cfg</file></file-list><payloads><payload name=\"payload1\" type=\"vgz\" size=\"{}\">\
         <checksum checksum-type=\"sha-256\">{}</checksum>\
         <checksum checksum-type=\"sha-1\" verify-process=\"gunzip\">{}</checksum></payload></payloads></vib>",
        payload.len(),
        packed.hex,
        unpacked.hex
    );
    let bytes = ar::write(&[
        ("descriptor.xml", descriptor.as_bytes()),
        ("sig.pkcs7", b""),
        ("payload1", &payload),
    ])
    .unwrap();
    let vib = Vib::read(&bytes).unwrap();
    assert_eq!(vib.payloads[0].info.checksums, sums);
    let entry = vib.file("opt/x/cfg").unwrap();
    assert_eq!((entry.mode, entry.data.as_slice()), (0o1644, &b"hi"[..]));
    assert_eq!(entry.dialect, tar::Dialect::Visor);
    let said = texts(&package(&bytes).unwrap());
    assert!(
        said.iter().any(|s| s.contains("no plain ustar entry")),
        "{said:?}"
    );
}

#[test]
fn a_bundle_of_ours_breaks_no_rule() {
    let about = payload::about("0.1.0", 7, 1_795_271_000, Acceptance::Community).unwrap();
    let bytes = vib::build(&about, &files(), b"").unwrap();
    let component = Component {
        vendor_code: payload::VENDOR_CODE.to_owned(),
        title: payload::TITLE.to_owned(),
    };
    let made = bundle::write(&component, &bytes).unwrap();
    assert_eq!(texts(&super::bundle(&made).unwrap()), Vec::<String>::new());
}
