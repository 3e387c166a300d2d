//! The original's databases, made by its own SQL, read and never changed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

use std::fs;

use rusqlite::Connection;
use uuid::Uuid;
use vdvs_domain::GroupId;
use vdvs_engine::config::{Original, OriginalPrivilege};
use vdvs_store::original::{OriginalError, parse};

const TENANTS: &str = "CREATE TABLE tenants(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, description TEXT,
    default_datastore_url TEXT);";
const REST: &str = "CREATE TABLE privileges(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, allow_create INTEGER,
    max_volume_size INTEGER, usage_quota INTEGER, PRIMARY KEY (tenant_id, datastore_url),
    FOREIGN KEY (tenant_id) REFERENCES tenants(id));
    CREATE TABLE volumes(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, volume_name TEXT, volume_size INTEGER,
    PRIMARY KEY (tenant_id, datastore_url, volume_name), FOREIGN KEY (tenant_id) REFERENCES tenants(id));
    CREATE TABLE versions(id INTEGER PRIMARY KEY NOT NULL, major_ver INTEGER NOT NULL, minor_ver INTEGER NOT NULL,
    vmodl_major_ver INTEGER NOT NULL, vmodl_minor_ver INTEGER NOT NULL);";
const VMS_1_1: &str = "CREATE TABLE vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL,
    FOREIGN KEY (tenant_id) REFERENCES tenants(id));";
const VMS_1_2: &str =
    "CREATE TABLE vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL, vm_name TEXT,
    FOREIGN KEY (tenant_id) REFERENCES tenants(id));";
const DEFAULT: &str = "11111111-1111-1111-1111-111111111111";
const DEV: &str = "3277ad45-e916-4e06-8fd3-381b6b4f6c94";
const VM: &str = "564d1f0f-2a5b-8d1e-9b0c-0123456789ab";

fn database(minor: i64, sql: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth-db");
    let db = Connection::open(&path).unwrap();
    let vms = if minor == 1 { VMS_1_1 } else { VMS_1_2 };
    // The original declared foreign keys and never enforced them.
    db.pragma_update(None, "foreign_keys", "OFF").unwrap();
    db.execute_batch(&format!("{TENANTS}{vms}{REST}")).unwrap();
    db.execute_batch(&format!(
        "INSERT INTO versions VALUES(0,1,{minor},1,0); {sql}"
    ))
    .unwrap();
    drop(db);
    fs::read(path).unwrap()
}

fn version_1_2() -> Vec<u8> {
    database(
        2,
        &format!(
            "INSERT INTO tenants VALUES('{DEFAULT}','_DEFAULT','This is a default vmgroup','_VM_DS://');
             INSERT INTO tenants VALUES('{DEV}','dev','Dev''s','/vmfs/volumes/ds1');
             INSERT INTO vms VALUES('{VM}','{DEV}','worker1');
             INSERT INTO privileges VALUES('{DEFAULT}','_ALL_DS://',1,0,0);
             INSERT INTO privileges VALUES('{DEV}','/vmfs/volumes/ds1',1,500,1024);
             INSERT INTO privileges VALUES('{DEV}','_VM_DS://',0,0,0);
             INSERT INTO volumes VALUES('{DEV}','/vmfs/volumes/ds1','db',100);"
        ),
    )
}

fn privilege(url: &str, allow_create: bool, max: u64, total: u64) -> OriginalPrivilege {
    OriginalPrivilege {
        datastore: url.to_owned(),
        allow_create,
        max_volume_mb: max,
        total_mb: total,
    }
}

#[test]
fn schema_1_2_is_read_as_it_is() {
    let read = parse(&version_1_2()).unwrap();
    assert_eq!((read.schema, read.warnings.len()), ((1, 2), 0));
    let [default, dev] = read.groups.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(default.id, GroupId::DEFAULT.uuid());
    assert_eq!(
        (dev.name.as_str(), dev.description.as_str()),
        ("dev", "Dev's")
    );
    assert_eq!(dev.default_datastore, "/vmfs/volumes/ds1");
    assert_eq!(dev.vms[0].bios, Uuid::parse_str(VM).unwrap());
    assert_eq!(dev.vms[0].name, "worker1");
    let expected = [
        privilege("/vmfs/volumes/ds1", true, 500, 1024),
        privilege("_VM_DS://", false, 0, 0),
    ];
    assert_eq!(dev.privileges, expected);
}

#[test]
fn schema_1_1_is_read_as_the_originals_upgrade_would_leave_it() {
    let bytes = database(
        1,
        &format!(
            "INSERT INTO tenants VALUES('{DEFAULT}','_DEFAULT','','');
             INSERT INTO tenants VALUES('{DEV}','dev',NULL,'/vmfs/volumes/ds1');
             INSERT INTO vms VALUES('{VM}','{DEV}');
             INSERT INTO privileges VALUES('{DEFAULT}','_DEFAULT_URL',1,0,0);
             INSERT INTO privileges VALUES('{DEV}','/vmfs/volumes/ds2',0,0,0);"
        ),
    );
    let read = parse(&bytes).unwrap();
    let [default, dev] = read.groups.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(default.default_datastore, "_VM_DS://");
    let all = [
        privilege("_VM_DS://", true, 0, 0),
        privilege("_ALL_DS://", true, 0, 0),
    ];
    assert_eq!(default.privileges, all);
    assert_eq!(dev.vms[0].name, "", "1.1 kept no names");
    let expected = [
        privilege("/vmfs/volumes/ds2", false, 0, 0),
        privilege("/vmfs/volumes/ds1", true, 0, 0),
    ];
    assert_eq!(dev.privileges, expected);
}

#[test]
fn rows_that_name_no_vmgroup_are_told_and_left_out() {
    let bytes = database(
        2,
        &format!(
            "INSERT INTO tenants VALUES('{DEV}','dev','','_VM_DS://');
             INSERT INTO tenants VALUES('not-a-uuid','odd','','');
             INSERT INTO vms VALUES('{VM}','gone','worker1');
             INSERT INTO vms VALUES('word','{DEV}','worker2');
             INSERT INTO privileges VALUES('gone','_ALL_DS://',1,0,0);"
        ),
    );
    let Original {
        groups, warnings, ..
    } = parse(&bytes).unwrap();
    assert_eq!((groups.len(), warnings.len()), (1, 4), "{warnings:?}");
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("worker1") && w.contains("left out"))
    );
}

#[test]
fn other_versions_are_refused_in_the_originals_words() {
    for (major, minor) in [(1, 0), (1, 3), (2, 2)] {
        let bytes = database(
            2,
            &format!("UPDATE versions SET major_ver={major}, minor_ver={minor};"),
        );
        let err = parse(&bytes).unwrap_err();
        assert_eq!(err, OriginalError::Version { major, minor });
        let text =
            format!("Upgrade is not supported for auth-db schema version {major}.{minor} to 1.2.");
        assert!(err.to_string().contains(&text), "{err}");
    }
    assert_eq!(
        parse(&[]).unwrap_err(),
        OriginalError::Version { major: 0, minor: 0 }
    );
}

#[test]
fn limits_that_make_no_sense_are_never_read_as_unlimited() {
    for limit in ["-1", "'much'", "1.5"] {
        let bytes = database(
            2,
            &format!(
                "INSERT INTO tenants VALUES('{DEV}','dev','','_VM_DS://');
                 INSERT INTO privileges VALUES('{DEV}','_VM_DS://',1,{limit},0);"
            ),
        );
        assert!(
            matches!(parse(&bytes), Err(OriginalError::Damaged(_))),
            "{limit}"
        );
    }
}

#[test]
fn damaged_files_are_refused_and_none_makes_the_reader_fall() {
    let whole = version_1_2();
    assert!(matches!(
        parse(b"{\"json\":1}"),
        Err(OriginalError::NotADatabase(_))
    ));
    let other = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE x(y);").unwrap();
        drop(db);
        fs::read(path).unwrap()
    };
    assert!(matches!(parse(&other), Err(OriginalError::Damaged(_))));
    for cut in [17, 99, 1000, whole.len() / 2, whole.len() - 1] {
        assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let good = parse(&whole).unwrap();
    let mut other = 0;
    for at in (16..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        // Refused, or read: never a crash. A text that differs is a text that was changed.
        if parse(&bytes).is_ok_and(|read| read != good) {
            other += 1;
        }
    }
    assert!(
        other < whole.len() / 7 / 2,
        "{other} damaged files were read as something else"
    );
}
