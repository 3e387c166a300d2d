//! What a person types, read against what there is.

use super::super::asked::description;
use super::*;

fn named(name: &str) -> DatastoreScope {
    DatastoreScope::Named(ds(name))
}

#[test]
fn a_datastore_is_a_placeholder_or_one_that_there_is_without_doubt() {
    let mut known = known();
    assert_eq!(known.scope("_ALL_DS").unwrap(), DatastoreScope::All);
    assert_eq!(known.scope("_VM_DS").unwrap(), DatastoreScope::VmHome);
    assert_eq!(known.scope("ds1").unwrap(), named("ds1"));
    assert_eq!(known.scope("VSAN").unwrap(), named("Vsan"), "in any case");
    assert!(known.scope("ds9").is_err() && known.scope("a/b").is_err());
    // Two that differ in case only: each is meant by its own spelling, and nothing else means either.
    known.datastores.push(ds("vsan"));
    assert_eq!(known.scope("vsan").unwrap(), named("vsan"));
    assert_eq!(known.scope("Vsan").unwrap(), named("Vsan"));
    assert!(known.scope("VSAN").is_err());
}

#[test]
fn new_volumes_go_to_one_datastore_or_to_their_vms_own() {
    let known = known();
    let home = known.default_datastore("_VM_DS");
    assert_eq!(home.unwrap(), DatastoreScope::VmHome);
    assert_eq!(known.default_datastore("ds2").unwrap(), named("ds2"));
    let all = known.default_datastore("_ALL_DS");
    assert_eq!(all.unwrap_err(), Fault::AllAsDefault);
    assert!(known.default_datastore("ds9").is_err());
}

#[test]
fn a_description_is_one_line_of_bounded_length() {
    let most = "x".repeat(MAX_DESCRIPTION);
    assert_eq!(description(&most).unwrap(), most);
    assert!(description(&format!("{most}x")).is_err());
    assert!(description("two\nlines").is_err());
    assert_eq!(description("").unwrap(), "");
}

/// Hosts of before a mark was known read what bears none.
#[test]
fn a_mark_is_written_only_where_it_is_set() {
    let mut config = two_groups();
    let text = |config: &AccessConfig| serde_json::to_string(config).unwrap();
    assert!(!text(&config).contains("removing"));
    config.groups[1].removing = true;
    assert_eq!(text(&config).matches("\"removing\":true").count(), 1);
    let read: AccessConfig = serde_json::from_str(&text(&config)).unwrap();
    assert_eq!(read, config);
}

#[test]
fn open_to_all_is_only_what_lets_vms_that_nobody_named_create() {
    let open = AccessConfig::open_to_all();
    assert!(open.is_open_to_all());
    let with = |change: fn(&mut Group)| {
        let mut config = open.clone();
        change(&mut config.groups[0]);
        config.is_open_to_all()
    };
    assert!(!with(|group| group.members = Members::Vms(vec![vm(1)])));
    assert!(!with(|group| group.removing = true));
    let use_only = |group: &mut Group| {
        for privilege in &mut group.privileges {
            privilege.allow_create = false;
        }
    };
    assert!(!with(use_only));
}

#[test]
fn at_most_a_thousand_vms_are_named_at_once() {
    let refused = |count: usize| {
        let vms: Vec<String> = (0..count).map(|n| format!("nobody{n}")).collect();
        let ask = ChangeMembers {
            vms,
            ..members("dev", &[])
        };
        code(two_groups().add_members(&ask, &known()))
    };
    assert_eq!(refused(MAX_VMS_ASKED), 101, "not found, every one");
    assert_eq!(refused(MAX_VMS_ASKED + 1), 502, "too many");
}
