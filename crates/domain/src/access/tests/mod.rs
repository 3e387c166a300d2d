//! Changes: the original's checks in the original's order.

mod any;
mod asked;
mod told;
mod transfers;

use std::fmt::Debug;

use uuid::Uuid;

use super::*;
use crate::ids::{GroupId, HostId, Timestamp};
use crate::names::DatastoreName;

fn ds(name: &str) -> DatastoreName {
    DatastoreName::new(name).unwrap()
}

fn vm(n: u128) -> Member {
    Member {
        uuid: Uuid::from_u128(n),
        name: format!("vm{n}"),
    }
}

fn known() -> Surroundings {
    let unused = |n| KnownVm {
        vm: vm(n),
        mounted: Vec::new(),
        owned: Vec::new(),
    };
    Surroundings {
        datastores: vec![ds("ds1"), ds("ds2"), ds("Vsan")],
        vms: (1..=6).map(unused).collect(),
    }
}

/// VM 1 has `v@ds1` attached and made `w@ds1`; VM 2 made `x@ds1`.
fn busy() -> Surroundings {
    let mut known = known();
    known.vms[0].mounted = vec!["v@ds1".to_owned()];
    known.vms[0].owned = vec!["v@ds1".to_owned(), "w@ds1".to_owned()];
    known.vms[1].owned = vec!["x@ds1".to_owned()];
    known
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|t| (*t).to_owned()).collect()
}

fn create(name: &str, vms: &[&str]) -> CreateGroup {
    CreateGroup {
        name: name.to_owned(),
        default_datastore: "ds1".to_owned(),
        vms: texts(vms),
        ..CreateGroup::default()
    }
}

fn members(group: &str, vms: &[&str]) -> ChangeMembers {
    ChangeMembers {
        group: group.to_owned(),
        vms: texts(vms),
        ..ChangeMembers::default()
    }
}

fn row(group: &str, datastore: &str, texts: [Option<&str>; 3]) -> ChangePrivilege {
    let [allow_create, max_size, total_size] = texts.map(|t| t.map(str::to_owned));
    ChangePrivilege {
        group: group.to_owned(),
        datastore: datastore.to_owned(),
        allow_create,
        max_size,
        total_size,
    }
}

fn id(n: u128) -> GroupId {
    GroupId::new(Uuid::from_u128(1000 + n))
}

/// `dev` with vm1, `test` with vm2.
fn two_groups() -> AccessConfig {
    let mut config = AccessConfig::open_to_all();
    let known = known();
    config
        .create_group(id(1), &create("dev", &["vm1"]), &known)
        .unwrap();
    config
        .create_group(id(2), &create("test", &["vm2"]), &known)
        .unwrap();
    config
}

fn code<T: Debug>(result: Result<T, Fault>) -> u16 {
    result.unwrap_err().code()
}

#[test]
fn a_fresh_configuration_shows_the_originals_two_privileges_of_the_default_group() {
    let config = AccessConfig::open_to_all();
    let rows: Vec<String> = config.groups[0]
        .privileges
        .iter()
        .map(|p| p.datastore.to_string())
        .collect();
    assert_eq!(rows, ["_ALL_DS", "_VM_DS"]);
    assert!(config.is_open_to_all());
}

#[test]
fn create_checks_in_the_originals_order() {
    let mut config = two_groups();
    let mut make = |name: &str, datastore: &str, vms: &[&str], known: &Surroundings| {
        let ask = CreateGroup {
            default_datastore: datastore.to_owned(),
            ..create(name, vms)
        };
        code(config.create_group(id(9), &ask, known))
    };
    assert_eq!(make("a b", "no", &["vm1", "vm1"], &known()), 8);
    assert_eq!(make("_DEFAULT", "no", &["vm1"], &known()), 502);
    assert_eq!(make("dev", "no", &["nobody", "nobody"], &known()), 107);
    assert_eq!(make("dev", "no", &["nobody", "vm1"], &known()), 101);
    assert_eq!(make("dev", "no", &["vm1"], &known()), 105);
    assert_eq!(make("dev", "no", &[" "], &known()), 106);
    let mut mounted = known();
    mounted.vms[2].mounted = vec!["v@ds1".to_owned()];
    assert_eq!(make("dev", "no", &["vm3"], &mounted), 108);
    assert_eq!(make("dev", "_ALL_DS", &["vm3"], &known()), 305);
    assert_eq!(make("dev", "", &["vm3"], &known()), 303);
    assert_eq!(make("dev", "no", &["vm3"], &known()), 302);
    assert_eq!(make("dev", "DS1", &["vm3"], &known()), 3);
}

#[test]
fn a_new_group_may_do_everything_on_its_default_datastore_only() {
    let config = two_groups();
    let dev = config.group("dev").unwrap();
    assert_eq!(
        dev.privileges,
        [Privilege::full(DatastoreScope::Named(ds("ds1")))]
    );
    assert_eq!(dev.vms(), [vm(1)]);
}

#[test]
fn the_default_group_is_made_again_with_its_id_and_one_privilege() {
    let mut config = AccessConfig::open_to_all();
    config.remove_group("_DEFAULT", false).unwrap();
    assert!(!config.is_open_to_all());
    let ask = CreateGroup {
        default_datastore: "_VM_DS".to_owned(),
        ..create("_DEFAULT", &[])
    };
    config.create_group(id(7), &ask, &known()).unwrap();
    let group = config.group("_DEFAULT").unwrap();
    assert_eq!(
        (group.id, &group.members),
        (GroupId::DEFAULT, &Members::Others)
    );
    assert_eq!(group.privileges, [Privilege::full(DatastoreScope::VmHome)]);
    assert_eq!(code(config.create_group(id(8), &ask, &known())), 3);
}

/// A create of a vmgroup with VMs and their volumes makes the vmgroup first.
#[test]
fn a_create_that_was_cut_short_is_told_what_remains_and_how_to_do_it() {
    let mut config = AccessConfig::open_to_all();
    let ask = CreateGroup {
        volumes: Leaving::Move,
        ..create("dev", &["vm1", "vm2"])
    };
    config.create_group(id(1), &ask, &known()).unwrap();
    let again = config.create_group(id(2), &ask, &known()).unwrap_err();
    assert_eq!(again.code(), 3);
    let text = again.to_string();
    assert!(text.starts_with("Vmgroup dev already exists"), "{text}");
    let rest = "vdvs vmgroup vm add --name=dev --vm-list=vm1,vm2 --move-volumes";
    assert!(text.ends_with(rest), "{text}");
    let other = config.create_group(id(3), &create("dev", &[]), &known());
    assert_eq!(
        other.unwrap_err(),
        Fault::GroupExists {
            name: config.group("dev").unwrap().name.clone()
        }
    );
}

#[test]
fn update_checks_the_new_name_and_changes_nothing_when_it_is_refused() {
    let mut config = two_groups();
    let before = config.clone();
    let rename = |name: &str, new: &str| UpdateGroup {
        name: name.to_owned(),
        new_name: Some(new.to_owned()),
        default_datastore: Some("ds2".to_owned()),
        ..UpdateGroup::default()
    };
    for (name, new, expected) in [
        ("nobody", "x", 2),
        ("_DEFAULT", "x", 8),
        ("dev", "../../x", 8),
        ("dev", "policies", 8),
        ("dev", "_DEFAULT", 8),
        ("dev", "test", 3),
        ("dev", "", 401),
    ] {
        assert_eq!(
            code(config.update_group(&rename(name, new), &known())),
            expected,
            "{new}"
        );
        assert_eq!(config, before);
    }
    let said = config
        .update_group(&rename("_DEFAULT", "x"), &known())
        .unwrap_err();
    assert!(
        said.to_string()
            .ends_with("only rename of vmgroups other than _DEFAULT is allowed")
    );
    config
        .update_group(&rename("dev", "prod"), &known())
        .unwrap();
    let prod = config.group("prod").unwrap();
    assert_eq!(
        (prod.id, prod.vms()),
        (id(1), &[vm(1)][..]),
        "rename keeps members"
    );
    assert_eq!(prod.default_datastore, DatastoreScope::Named(ds("ds2")));
    assert_eq!(
        prod.privileges.len(),
        2,
        "the old default's privilege stays, the new one's is added"
    );
}

#[test]
fn a_description_can_be_cleared_and_a_default_size_lifted() {
    let mut config = two_groups();
    let mut update = |description: &str, size: &str| {
        let ask = UpdateGroup {
            name: "dev".to_owned(),
            description: Some(description.to_owned()),
            default_size: Some(size.to_owned()),
            ..UpdateGroup::default()
        };
        config.update_group(&ask, &known()).map(|_| {
            let dev = config.group("dev").unwrap();
            (dev.description.clone(), dev.default_size.map(|s| s.bytes()))
        })
    };
    assert_eq!(
        update("the team", "5gb").unwrap(),
        ("the team".to_owned(), Some(5 << 30))
    );
    assert_eq!(code(update("x", "5")), 507);
    assert_eq!(code(update(&"x".repeat(257), "")), 403);
    assert_eq!(update("", "").unwrap(), (String::new(), None));
}

#[test]
fn members_are_checked_in_the_originals_order() {
    let mut config = two_groups();
    let busy = busy();
    let mut add = |group: &str, vms: &[&str]| code(config.add_members(&members(group, vms), &busy));
    assert_eq!(add("_DEFAULT", &[]), 504);
    assert_eq!(add("nobody", &[]), 2);
    assert_eq!(add("dev", &[]), 106);
    assert_eq!(add("dev", &["vm1", "vm1"]), 107);
    assert_eq!(add("dev", &["vm1", "nobody"]), 101);
    assert_eq!(add("dev", &["vm1"]), 103);
    assert_eq!(add("dev", &["vm2"]), 105);
    let mut remove = |vms: &[&str]| code(config.remove_members(&members("dev", vms), &busy));
    assert_eq!(remove(&[]), 106);
    assert_eq!(remove(&["nobody"]), 101);
    assert_eq!(remove(&["vm1"]), 108);
    assert_eq!(remove(&["vm2"]), 104);
    let mut replace = |vms: &[&str]| code(config.replace_members(&members("dev", vms), &busy));
    assert_eq!(replace(&[]), 102);
    assert_eq!(replace(&["vm3", "vm3"]), 107);
    assert_eq!(replace(&["nobody"]), 101);
    assert_eq!(replace(&["vm2"]), 105);
    assert_eq!(replace(&["vm3"]), 108);
}

#[test]
fn replace_may_keep_members_with_what_they_have_mounted() {
    let mut config = two_groups();
    config
        .replace_members(&members("dev", &["vm3", "vm1"]), &busy())
        .unwrap();
    assert_eq!(config.group("dev").unwrap().vms(), [vm(1), vm(3)]);
    let uuid = vm(3).uuid.to_string();
    let twice = members("dev", &["vm3", &uuid]);
    assert_eq!(code(config.replace_members(&twice, &known())), 107);
}

#[test]
fn a_vm_that_would_lose_its_volumes_is_asked_about() {
    let mut config = AccessConfig::open_to_all();
    config
        .create_group(id(1), &create("dev", &[]), &known())
        .unwrap();
    let ask = |vm: &str, volumes| ChangeMembers {
        volumes,
        ..members("dev", &[vm])
    };
    let busy = busy();
    let fault = config
        .add_members(&ask("vm2", Leaving::Ask), &busy)
        .unwrap_err();
    let said = fault.to_string();
    assert!(
        matches!(fault, Fault::VolumesLeftBehind { .. }) && said.contains("x@ds1"),
        "{said}"
    );
    assert!(
        said.contains("--move-volumes") && said.contains("--leave-volumes"),
        "{said}"
    );
    assert_eq!(
        code(config.add_members(&ask("vm1", Leaving::Leave), &busy)),
        108,
        "mounted"
    );
    config
        .add_members(&ask("vm2", Leaving::Leave), &busy)
        .unwrap();
    let done = config
        .add_members(&ask("vm1", Leaving::Move), &busy)
        .unwrap();
    assert_eq!(
        done.moving,
        [vm(1)],
        "it joins when its volumes have come along"
    );
    assert_eq!(config.group("dev").unwrap().vms(), [vm(2)]);
    let done = config
        .add_members(&ask("vm3", Leaving::Move), &busy)
        .unwrap();
    assert_eq!(
        done.moving,
        [vm(3)],
        "with nothing of its own too: it may use what others bring"
    );
    assert_eq!(config.group("dev").unwrap().vms(), [vm(2)]);
}

#[test]
fn a_member_that_no_host_knows_is_removed_by_its_stored_name_or_uuid() {
    for text in ["vm1".to_owned(), vm(1).uuid.to_string()] {
        let mut config = two_groups();
        let nobody = Surroundings {
            vms: Vec::new(),
            ..known()
        };
        config
            .remove_members(&members("dev", &[&text]), &nobody)
            .unwrap();
        assert!(config.group("dev").unwrap().vms().is_empty());
        config.remove_group("dev", false).unwrap();
    }
}

#[test]
fn privileges_are_checked_in_the_originals_order_and_lifted_limits_are_lifted() {
    let mut config = two_groups();
    let known = known();
    let set = [Some("TRUE"), Some("500MB"), Some("1gb")];
    assert_eq!(
        code(config.add_privilege(&row("nobody", "no", set), &known)),
        2
    );
    assert_eq!(
        code(config.add_privilege(&row("dev", "no", set), &known)),
        302
    );
    assert_eq!(
        code(config.add_privilege(&row("dev", "ds1", [Some("x"), None, None]), &known)),
        202
    );
    assert_eq!(
        code(config.add_privilege(&row("dev", "ds2", [Some(""), Some("x"), None]), &known)),
        204
    );
    assert_eq!(
        code(config.add_privilege(&row("dev", "ds2", [None, Some("x"), None]), &known)),
        507
    );
    assert_eq!(
        code(config.add_privilege(&row("dev", "ds2", [None, Some("2gb"), Some("1gb")]), &known)),
        203
    );
    assert_eq!(
        code(config.set_privilege(&row("dev", "ds2", set), &known)),
        201
    );
    config
        .add_privilege(&row("dev", "ds2", set), &known)
        .unwrap();
    let now = |config: &AccessConfig| {
        let dev = config.group("dev").unwrap();
        let p = dev.privilege(&DatastoreScope::Named(ds("ds2"))).unwrap();
        (
            p.allow_create,
            p.max_volume.map(|m| m.bytes() >> 20),
            p.total_bytes.map(|t| t >> 20),
        )
    };
    assert_eq!(now(&config), (true, Some(500), Some(1024)));
    config
        .set_privilege(&row("dev", "ds2", [Some("false"), None, None]), &known)
        .unwrap();
    assert_eq!(
        now(&config),
        (false, Some(500), Some(1024)),
        "what is absent stays"
    );
    assert_eq!(
        code(config.set_privilege(&row("dev", "ds2", [None, Some("2gb"), None]), &known)),
        203
    );
    config
        .set_privilege(
            &row("dev", "ds2", [None, Some("unlimited"), Some("0")]),
            &known,
        )
        .unwrap();
    assert_eq!(now(&config), (false, None, None));
    assert_eq!(
        code(config.remove_privilege(&row("dev", "ds1", [None; 3]), &known)),
        205
    );
    assert_eq!(
        code(config.remove_privilege(&row("dev", "Vsan", [None; 3]), &known)),
        201
    );
    let gone = Surroundings::default();
    config
        .remove_privilege(&row("dev", "ds2", [None; 3]), &gone)
        .unwrap();
    assert_eq!(
        code(config.remove_privilege(&row("dev", "ds2", [None; 3]), &known)),
        201
    );
}

#[test]
fn a_group_with_vms_is_removed_only_by_force_and_closed_to_them_meanwhile() {
    let mut config = two_groups();
    assert_eq!(code(config.remove_group("dev", false)), 9);
    assert_eq!(code(config.close_group("dev", false)), 9);
    config.close_group("dev", true).unwrap();
    let home = ds("ds1");
    let caller = Caller {
        instance_uuid: vm(1).uuid,
        name: "vm1",
        home: Some(&home),
    };
    let denied = decide(&config, &caller, Verb::Use, &home).unwrap_err();
    assert!(matches!(denied, Denied::BeingRemoved { .. }));
    let keep = UpdateGroup {
        name: "dev".to_owned(),
        ..UpdateGroup::default()
    };
    config.update_group(&keep, &known()).unwrap();
    assert!(decide(&config, &caller, Verb::Use, &home).is_ok());
    config.remove_group("dev", true).unwrap();
    assert!(config.group_naming(vm(1).uuid).is_none());
}

#[test]
fn members_do_not_change_while_some_are_on_their_way() {
    let mut config = two_groups();
    config.transfers.push(Transfer {
        id: Uuid::from_u128(5),
        vms: vec![vm(4)],
        from: GroupId::DEFAULT,
        to: id(1),
        volumes: Vec::new(),
        exact: false,
        back: false,
        host: HostId::new(Uuid::from_u128(6)),
        began: Timestamp::default(),
    });
    let fault = config
        .add_members(&members("dev", &["vm3"]), &known())
        .unwrap_err();
    assert!(matches!(fault, Fault::UnderTransfer { .. }));
    assert!(config.remove_group("dev", true).is_err());
    config
        .add_members(&members("test", &["vm3"]), &known())
        .unwrap();
}
