use proptest::prelude::*;

use super::*;
use crate::plan::tests::record;
use vdvs_domain::Ownership;

fn host(n: u128) -> HostId {
    HostId::new(Uuid::from_u128(n))
}

fn text(n: usize) -> String {
    "ü\"\\".repeat(n)
}

fn file() -> HostFile {
    let ds = DatastoreName::new("ds").unwrap();
    HostFile {
        host: host(1),
        name: "esx01".to_owned(),
        kind: "sim".to_owned(),
        program: "vdvsd 1".to_owned(),
        at: Timestamp::from_millis(5),
        vms: Vec::new(),
        datastores: vec![ToldDatastore {
            name: ds,
            id: Some(Uuid::from_u128(3)),
            capacity: 1000,
            free: 500,
            problem: String::new(),
        }],
        configs: vec![ToldConfig {
            id: Uuid::from_u128(4),
            version: 7,
        }],
        warnings: Vec::new(),
        waits: Vec::new(),
        rows: Vec::new(),
        volumes: Vec::new(),
        left_out: 0,
    }
}

fn of(bytes: &[u8]) -> Option<HostFile> {
    HostFile::read(bytes, || "a file".to_owned()).unwrap()
}

fn vm(n: usize, length: usize) -> ToldVm {
    ToldVm {
        id: VmId {
            instance_uuid: Uuid::from_u128(n as u128),
            config_path: format!("[ds] {n}/{n}.vmx"),
        },
        name: text(length),
        power: ToldPower::On,
        connected: true,
        plugin: "plugin".to_owned(),
        home: None,
    }
}

fn row(n: u64, length: usize) -> ToldRow {
    ToldRow {
        at: Timestamp::from_millis(n),
        last: Timestamp::from_millis(n),
        count: 1,
        who: text(length),
        verb: "create".to_owned(),
        object: text(length),
        volume: None,
        outcome: "done".to_owned(),
        detail: text(length),
    }
}

fn volume(n: usize) -> ToldVolume {
    ToldVolume {
        datastore: DatastoreName::new("local").unwrap(),
        datastore_id: Uuid::from_u128(9),
        group: "_DEFAULT".to_owned(),
        disk_path: format!("dockvols/x/{n}.vmdk"),
        record: record(Ownership::Free),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_a_host_has_to_tell_fits_into_what_a_reader_accepts_and_the_counts_add_up(
        vms in 0usize..1500,
        name in 0usize..60,
        rows in 0usize..80,
        length in 0usize..300,
        volumes in 0usize..700,
    ) {
        let told = HostFile {
            vms: (0..vms).map(|n| vm(n, name)).collect(),
            rows: (0..rows).map(|n| row(n as u64, length)).collect(),
            volumes: (0..volumes).map(volume).collect(),
            ..file()
        };
        let bytes = told.clone().bytes().unwrap();
        prop_assert!(bytes.len() <= Kind::Host.max_bytes());
        let read = of(&bytes).expect("it is whole");
        let left = read.vms.len() + read.rows.len() + read.volumes.len();
        prop_assert_eq!(left + read.left_out as usize, vms + rows + volumes);
        prop_assert_eq!(&read.vms[..], &told.vms[..read.vms.len()]);
        prop_assert_eq!((read.host, read.datastores, read.configs), (told.host, told.datastores, told.configs));
    }

    #[test]
    fn no_bytes_make_a_reader_fail_otherwise_than_by_saying_so(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        body in "\\{.{0,80}\\}",
        flip in any::<prop::sample::Index>(),
    ) {
        drop(HostFile::read(&bytes, || "a file".to_owned()));
        let framed = frame::around(Kind::Host, body.as_bytes());
        drop(HostFile::read(&framed, || "a file".to_owned()));
        let mut damaged = file().bytes().unwrap();
        let at = flip.index(damaged.len());
        damaged[at] ^= 0x20;
        let read = HostFile::read(&damaged, || "a file".to_owned());
        prop_assert!(!matches!(read, Ok(Some(read)) if read == file()), "damage at {at}");
    }

    #[test]
    fn only_our_own_spelling_of_a_name_is_a_hosts_file(
        id in any::<u128>(), seq in 1u64.., junk in "\\PC{0,60}",
    ) {
        let host = host(id);
        let name = format!("{START}{host}.{seq}");
        prop_assert_eq!(slot_of_host(&name), Some((host, seq)));
        prop_assert_eq!(slot_of_host(&format!("{START}{host}.0{seq}")), None);
        let upper = host.to_string().to_uppercase();
        if upper != host.to_string() {
            prop_assert_eq!(slot_of_host(&format!("{START}{upper}.{seq}")), None);
        }
        if let Some((host, seq)) = slot_of_host(&junk) {
            prop_assert_eq!(format!("{START}{host}.{seq}"), junk);
        }
    }
}

#[test]
fn a_newer_program_may_add_fields_and_an_older_one_leave_them_out() {
    let newer = format!(
        r#"{{"host":"{}","name":"new","at":9,"weather":{{"rain":1}}}}"#,
        host(2)
    );
    let read = of(&frame::around(Kind::Host, newer.as_bytes())).expect("it is whole");
    assert_eq!((read.host, read.name.as_str()), (host(2), "new"));
    assert!(read.vms.is_empty() && read.configs.is_empty());
}

#[test]
fn time_and_a_little_room_are_no_news() {
    let told = file();
    let mut later = file();
    later.at = Timestamp::from_millis(99);
    later.datastores[0].free -= 1;
    later.datastores[0].free += 10;
    assert!(told.says_the_same(&later));
    later.datastores[0].free = 100;
    assert!(!told.says_the_same(&later));
    let mut other = file();
    other.warnings.push("x".to_owned());
    assert!(!told.says_the_same(&other));
}
