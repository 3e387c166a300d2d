//! What a change says it did, and to whom.

use super::*;

fn volumes(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("v{n}@ds1")).collect()
}

fn with(volumes: Leaving, group: &str, vms: &[&str]) -> ChangeMembers {
    ChangeMembers {
        volumes,
        ..members(group, vms)
    }
}

#[test]
fn a_create_says_who_belongs_to_it_now_and_who_comes_with_volumes() {
    let mut config = AccessConfig::open_to_all();
    let ask = create("dev", &["vm1", "vm2"]);
    let done = config.create_group(id(1), &ask, &known()).unwrap();
    let so = "vmgroup create dev, default datastore ds1, VMs vm1, vm2";
    assert_eq!(done, Changed::so(so.to_owned()));
    let ask = CreateGroup {
        volumes: Leaving::Move,
        ..create("test", &["vm3", "vm4"])
    };
    let done = config.create_group(id(2), &ask, &known()).unwrap();
    let so = "vmgroup create test, default datastore ds1, to come with their volumes vm3, vm4";
    assert_eq!((done.what.as_str(), done.moving), (so, vec![vm(3), vm(4)]));
    assert!(config.group("test").unwrap().vms().is_empty());
}

#[test]
fn a_change_of_members_says_who_came_and_who_went() {
    let mut config = two_groups();
    let (add, bring) = (
        with(Leaving::Ask, "dev", &["vm3"]),
        with(Leaving::Move, "dev", &["vm4"]),
    );
    let done = config.add_members(&add, &known()).unwrap();
    assert_eq!(done, Changed::so("vmgroup vm add dev, VMs vm3".to_owned()));
    let done = config.add_members(&bring, &known()).unwrap();
    let so = "vmgroup vm add dev, to come with their volumes vm4";
    assert_eq!((done.what.as_str(), done.moving), (so, vec![vm(4)]));

    let same = with(Leaving::Ask, "dev", &["vm1", "vm3"]);
    let done = config.replace_members(&same, &known()).unwrap();
    assert_eq!(done, Changed::so("vmgroup vm replace dev".to_owned()));
    let other = with(Leaving::Ask, "dev", &["vm3", "vm4", "vm5"]);
    let done = config.replace_members(&other, &known()).unwrap();
    let so = "vmgroup vm replace dev, VMs vm4, vm5, without vm1";
    assert_eq!(done, Changed::so(so.to_owned()));
    assert_eq!(config.group("dev").unwrap().vms(), [vm(3), vm(4), vm(5)]);
    let bring = with(Leaving::Move, "dev", &["vm6"]);
    let done = config.replace_members(&bring, &known()).unwrap();
    let so = "vmgroup vm replace dev, to come with their volumes vm6, without vm3, vm4, vm5";
    assert_eq!((done.what.as_str(), done.moving), (so, vec![vm(6)]));
    assert!(config.group("dev").unwrap().vms().is_empty());
}

#[test]
fn who_leaves_is_told_what_it_can_no_longer_reach_and_who_takes_it_along_stays_till_then() {
    let mut config = two_groups();
    let busy = busy();
    let bring = with(Leaving::Move, "dev", &["vm1"]);
    let done = config.remove_members(&bring, &busy).unwrap();
    let so = "vmgroup vm rm dev, to come with their volumes vm1";
    assert_eq!((done.what.as_str(), done.moving), (so, vec![vm(1)]));
    assert_eq!(done.warnings, [""; 0]);
    assert_eq!(config.group("dev").unwrap().vms(), [vm(1)]);

    config
        .add_members(&members("test", &["vm3"]), &known())
        .unwrap();
    let done = config.remove_members(&members("test", &["vm2", "vm3"]), &busy);
    let done = done.unwrap();
    assert_eq!(done.what, "vmgroup vm rm test, VMs vm2, vm3");
    let warning = "VM vm2 can no longer reach volumes it made in vmgroup test: x@ds1";
    assert_eq!((done.moving, done.warnings), (vec![], texts(&[warning])));
    assert!(config.group("test").unwrap().vms().is_empty());
}

#[test]
fn of_many_volumes_ten_are_named_and_the_rest_counted() {
    let refused = |count| {
        let mut known = known();
        known.vms[0].mounted = volumes(count);
        let mut config = two_groups();
        let refused = config.remove_members(&members("dev", &["vm1"]), &known);
        let Err(Fault::VolumesMounted { vm, volumes, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(vm, "vm1");
        volumes
    };
    assert_eq!(refused(1), volumes(1));
    assert_eq!(refused(10), volumes(10));
    let mut many = volumes(10);
    many.push("and 2 more".to_owned());
    assert_eq!(refused(12), many);
}

/// VM 1 is called vm2 by now, and VM 2 bears another name.
#[test]
fn a_member_is_the_one_that_bears_the_name_now_or_bore_it_when_it_was_added() {
    let mut known = known();
    known.vms[0].vm.name = "vm2".to_owned();
    known.vms[1].vm.name = "db".to_owned();
    let left = |text: &str| {
        let mut config = two_groups();
        config.put_members(id(1), &[vm(1), vm(2), vm(3)]);
        assert!(
            config.group("test").unwrap().vms().is_empty(),
            "one vmgroup"
        );
        config
            .remove_members(&members("dev", &[text]), &known)
            .unwrap();
        let dev = config.group("dev").unwrap();
        dev.vms().iter().map(|vm| vm.uuid).collect::<Vec<_>>()
    };
    let all_but = |gone: u128| -> Vec<Uuid> {
        let all = (1..=3).filter(|n| *n != gone);
        all.map(Uuid::from_u128).collect()
    };
    assert_eq!(left("vm2"), all_but(1));
    assert_eq!(left("vm1"), all_but(1));
    assert_eq!(left("db"), all_but(2));
    assert_eq!(left(&Uuid::from_u128(2).to_string()), all_but(2));
    let mut config = two_groups();
    config.put_members(id(1), &[vm(1), vm(2)]);
    let twice = members("dev", &["vm1", "vm2"]);
    assert_eq!(code(config.remove_members(&twice, &known)), 107);
    assert_eq!(code(config.replace_members(&twice, &known)), 107);
}

#[test]
fn a_change_of_privileges_says_what_was_asked_for() {
    let mut config = two_groups();
    let known = known();
    let all = [Some("TRUE"), Some("500MB"), Some("1gb")];
    let done = config
        .add_privilege(&row("dev", "DS2", all), &known)
        .unwrap();
    let so = "vmgroup access add dev on ds2, allow-create TRUE, volume-maxsize 500MB, volume-totalsize 1gb";
    assert_eq!(done, Changed::so(so.to_owned()));
    let some = row("dev", "ds2", [None, Some("0"), None]);
    let done = config.set_privilege(&some, &known).unwrap();
    let so = "vmgroup access set dev on ds2, volume-maxsize 0";
    assert_eq!(done, Changed::so(so.to_owned()));
    let none = row("dev", "ds2", [None; 3]);
    let done = config.remove_privilege(&none, &known).unwrap();
    assert_eq!(done, Changed::so("vmgroup access rm dev on ds2".to_owned()));
}

#[test]
fn one_volume_may_take_all_there_is() {
    let mut config = two_groups();
    let ask = row("dev", "ds2", [None, Some("1gb"), Some("1024MB")]);
    config.add_privilege(&ask, &known()).unwrap();
    let dev = config.group("dev").unwrap();
    let made = dev.privilege(&DatastoreScope::Named(ds("ds2"))).unwrap();
    assert_eq!(made.max_volume.map(|m| m.bytes()), made.total_bytes);
    assert!(!made.allow_create, "nobody asked for that");
}

#[test]
fn an_update_says_what_it_changed_and_ones_own_name_is_no_new_one() {
    let mut config = two_groups();
    let before = config.clone();
    let ask = UpdateGroup {
        name: "dev".to_owned(),
        new_name: Some("dev".to_owned()),
        ..UpdateGroup::default()
    };
    let done = config.update_group(&ask, &known()).unwrap();
    assert_eq!(done, Changed::so("vmgroup update dev".to_owned()));
    assert_eq!(config, before);
    let closed = config.close_group("dev", true).unwrap();
    assert_eq!(closed, Changed::so("vmgroup rm dev, begun".to_owned()));
    let ask = UpdateGroup {
        name: "dev".to_owned(),
        new_name: Some("prod".to_owned()),
        description: Some("the team".to_owned()),
        default_datastore: Some("ds2".to_owned()),
        default_size: Some("5gb".to_owned()),
    };
    let done = config.update_group(&ask, &known()).unwrap();
    let so = "vmgroup update dev, kept, default datastore ds2, new name prod, description, default size 5GB";
    assert_eq!(done, Changed::so(so.to_owned()));
    let removed = config.remove_group("prod", true).unwrap();
    assert_eq!(removed, Changed::so("vmgroup rm prod".to_owned()));
}
