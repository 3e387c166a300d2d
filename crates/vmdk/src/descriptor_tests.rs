use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

const FROM_THE_FIELD: &str = r#"# Disk DescriptorFile
version=4
encoding="UTF-8"
CID=a1b2c3d4
parentCID=ffffffff
isNativeSnapshot="no"
createType="vmfs"

# Extent description
RW 2097152 VMFS "postgres_vol-flat.vmdk"

# Change Tracking File
changeTrackPath="postgres_vol-ctk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.comment = "kept = as it is"
ddb.iofilters = "vmware_iodelta"
ddb.longContentID = "0123456789abcdef01234567a1b2c3d4"
ddb.thinProvisioned = "1"
ddb.uuid = "60 00 C2 9b 5c 1d 2e 3f-40 51 62 73 84 95 a6 b7"
ddb.virtualHWVersion = "13"
"#;

#[test]
fn a_descriptor_from_the_field_says_what_it_says() {
    let d = Descriptor::parse(FROM_THE_FIELD.as_bytes()).unwrap();
    assert_eq!(d.create_type(), "vmfs");
    assert_eq!(d.cid(), 0xa1b2_c3d4);
    assert_eq!(d.parent_cid(), None);
    assert_eq!(d.capacity().unwrap().bytes(), 1 << 30);
    assert_eq!(d.flat_extent().unwrap().name, "postgres_vol-flat.vmdk");
    assert_eq!(d.ddb("comment"), Some("kept = as it is"));
    assert_eq!(
        parse_ddb_uuid(d.ddb("uuid").unwrap()).unwrap()[..4],
        [0x60, 0, 0xc2, 0x9b]
    );
}

#[test]
fn unknown_keys_survive_parse_and_write() {
    let d = Descriptor::parse(FROM_THE_FIELD.as_bytes()).unwrap();
    let again = Descriptor::parse(d.render().as_bytes()).unwrap();
    assert_eq!(again, d);
    assert_eq!(again.ddb("iofilters"), Some("vmware_iodelta"));
    assert_eq!(
        again.header("changeTrackPath"),
        Some("postgres_vol-ctk.vmdk")
    );
    assert_eq!(again.header("isNativeSnapshot"), Some("no"));
}

#[test]
fn windows_line_ends_and_zero_padding_are_read() {
    let text = FROM_THE_FIELD.replace('\n', "\r\n") + "\0\0\0";
    assert_eq!(
        Descriptor::parse(text.as_bytes()).unwrap(),
        Descriptor::parse(FROM_THE_FIELD.as_bytes()).unwrap()
    );
}

#[test]
fn a_child_and_a_split_disk_are_no_flat_disks() {
    let child = FROM_THE_FIELD.replace("parentCID=ffffffff", "parentCID=12345678");
    let child = Descriptor::parse(child.as_bytes()).unwrap();
    assert_eq!(child.parent_cid(), Some(0x1234_5678));
    assert!(child.flat_extent().is_none());
    let split = FROM_THE_FIELD.replace(
        "RW 2097152 VMFS \"postgres_vol-flat.vmdk\"",
        "RW 2048 FLAT \"a-f001.vmdk\" 0\nRW 2048 FLAT \"a-f002.vmdk\" 0",
    );
    let split = Descriptor::parse(split.as_bytes()).unwrap();
    assert_eq!(split.capacity().unwrap().sectors(), 4096);
    assert!(split.flat_extent().is_none());
}

#[test]
fn each_defect_is_named() {
    let broken = |from: &str, to: &str| {
        Descriptor::parse(FROM_THE_FIELD.replacen(from, to, 1).as_bytes()).unwrap_err()
    };
    assert_eq!(
        broken("# Disk DescriptorFile", "# Something"),
        ParseError::NoSignature
    );
    assert_eq!(broken("CID=a1b2c3d4\n", ""), ParseError::Missing("CID"));
    assert_eq!(
        broken("CID=a1b2c3d4", "CID=a1b2c3d45"),
        ParseError::Malformed("CID")
    );
    assert_eq!(
        broken("CID=a1b2c3d4", "CID=+1"),
        ParseError::Malformed("CID")
    );
    assert_eq!(
        broken("createType=\"vmfs\"\n", ""),
        ParseError::Missing("createType")
    );
    assert_eq!(
        broken("RW 2097152 VMFS \"postgres_vol-flat.vmdk\"\n", ""),
        ParseError::NoExtent
    );
    assert_eq!(
        broken("version=4", "version=4\nversion=4"),
        ParseError::Duplicate("version".to_owned())
    );
    assert_eq!(
        broken("version=4", "no key here"),
        ParseError::Line {
            line: 2,
            what: "neither a key nor an extent"
        }
    );
    assert_eq!(
        broken("RW 2097152 VMFS", "RW 2097152x VMFS"),
        ParseError::Line {
            line: 10,
            what: "extent with a malformed length"
        }
    );
    assert_eq!(
        broken("RW 2097152 VMFS", "RW 18446744073709551615 VMFS"),
        ParseError::Overflow
    );
    assert_eq!(Descriptor::parse(&[0xff, 0xfe]), Err(ParseError::NotText));
    assert_eq!(
        Descriptor::parse(&vec![b' '; MAX_BYTES + 1]),
        Err(ParseError::TooLong(MAX_BYTES + 1))
    );
}

#[test]
fn a_uuid_keeps_its_bytes_through_the_data_base_form() {
    let bytes = [
        0x60, 0, 0xc2, 0x90, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xff,
    ];
    let text = ddb_uuid(bytes);
    assert_eq!(text, "60 00 c2 90 01 02 03 04-05 06 07 08 09 0a 0b ff");
    assert_eq!(parse_ddb_uuid(&text), Some(bytes));
    for bad in [
        "",
        "60",
        "60 00 c2 90 01 02 03 04-05 06 07 08 09 0a 0b ff 00",
        "zz 00",
    ] {
        assert_eq!(parse_ddb_uuid(bad), None, "{bad}");
    }
}

/// Lines that are nearly right, so that arbitrary input reaches the deep parts of the parser.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("CID=fffffffe".to_owned()),
        Just("parentCID=ffffffff".to_owned()),
        Just("createType=\"vmfs\"".to_owned()),
        "(RW|RDONLY|NOACCESS) [0-9]{0,21} (VMFS|FLAT|ZERO|SESPARSE)( \"[^\"\n]{0,12}\")?( [0-9]{0,3})?",
        "[a-zA-Z.]{1,10}[ =]{0,3}\"?[^\"\n]{0,12}\"?",
        "ddb\\.[a-zA-Z.]{1,10} = \"[^\"\r\n]{0,20}\"",
        ".{0,40}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..512)) {
        Descriptor::parse(&bytes).ok();
    }

    #[test]
    fn no_uuid_text_panics(text in ".{0,60}") {
        prop_assert!(parse_ddb_uuid(&text).is_none_or(|b| b.len() == 16));
    }

    #[test]
    fn whatever_parses_is_written_and_read_back_the_same(lines in vec(line(), 0..12)) {
        let text = format!("{SIGNATURE}\n{}", lines.join("\n"));
        if let Ok(d) = Descriptor::parse(text.as_bytes()) {
            let again = Descriptor::parse(d.render().as_bytes());
            prop_assert_eq!(again, Ok(d));
        }
    }

    #[test]
    fn good_lines_in_any_number_are_read_back_the_same(
        keys in btree_map("[a-z][a-zA-Z.]{0,10}", "[^\"\r\n\\x00]{0,20}", 0..8),
        sectors in vec(0u64..1 << 40, 1..5),
    ) {
        let mut text = format!("{SIGNATURE}\nCID=1\ncreateType=\"vmfs\"\n");
        for (i, n) in sectors.iter().enumerate() {
            text += &format!("RW {n} VMFS \"e{i}-flat.vmdk\"\n");
        }
        for (k, v) in &keys {
            text += &format!("ddb.{k} = \"{v}\"\n");
        }
        let d = Descriptor::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(d.extents().len(), sectors.len());
        for (k, v) in &keys {
            prop_assert_eq!(d.ddb(k), Some(v.as_str()));
        }
        prop_assert_eq!(Descriptor::parse(d.render().as_bytes()), Ok(d));
    }
}
