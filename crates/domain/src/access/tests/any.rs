//! What holds after any sequence of changes.

use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::{busy, id, known};
use crate::access::*;
use crate::ids::GroupId;
use crate::names::GroupName;

#[derive(Debug, Clone)]
enum Step {
    Create(CreateGroup),
    Update(UpdateGroup),
    Remove(String, bool),
    Close(String),
    Members(u8, ChangeMembers),
    Privilege(u8, ChangePrivilege),
}

fn group_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(vec!["_DEFAULT", "dev", "test", "prod"]).prop_map(str::to_owned),
        1 => select(vec!["policies", "../x", "", "_VM_DS"]).prop_map(str::to_owned),
        1 => "\\PC{0,70}",
    ]
}

fn place() -> impl Strategy<Value = String> {
    select(vec![
        "ds1", "DS2", "vsan", "_VM_DS", "_ALL_DS", "nowhere", "",
    ])
    .prop_map(str::to_owned)
}

fn size() -> impl Strategy<Value = Option<String>> {
    let some = select(vec![
        "0", "Unset", "1mb", "500MB", "1gb", "2TB", "63TB", "junk", "", "0mb",
    ]);
    prop::option::of(some.prop_map(str::to_owned))
}

fn some_vms() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        6 => (1u128..=6).prop_map(|n| format!("vm{n}")),
        2 => (1u128..=6).prop_map(|n| Uuid::from_u128(n).to_string()),
        1 => Just("nobody".to_owned()),
    ];
    prop::collection::vec(one, 0..4)
}

fn leaving() -> impl Strategy<Value = Leaving> {
    select(vec![Leaving::Ask, Leaving::Move, Leaving::Leave])
}

fn step() -> impl Strategy<Value = Step> {
    let text =
        || prop::option::of(select(vec!["True", "false", "", "maybe"]).prop_map(str::to_owned));
    prop_oneof![
        (group_name(), place(), size(), some_vms(), leaving(),).prop_map(
            |(name, default_datastore, size, vms, volumes)| Step::Create(CreateGroup {
                name,
                description: String::new(),
                default_datastore,
                default_size: size.unwrap_or_default(),
                vms,
                volumes
            })
        ),
        (
            group_name(),
            prop::option::of(group_name()),
            prop::option::of(place()),
            size()
        )
            .prop_map(
                |(name, new_name, default_datastore, default_size)| Step::Update(UpdateGroup {
                    name,
                    new_name,
                    description: None,
                    default_datastore,
                    default_size
                })
            ),
        (group_name(), any::<bool>()).prop_map(|(name, force)| Step::Remove(name, force)),
        group_name().prop_map(Step::Close),
        (0u8..3, group_name(), some_vms(), leaving()).prop_map(|(how, group, vms, volumes)| {
            Step::Members(
                how,
                ChangeMembers {
                    group,
                    vms,
                    volumes,
                },
            )
        }),
        (0u8..3, group_name(), place(), text(), size(), size()).prop_map(
            |(how, group, datastore, allow_create, max_size, total_size)| Step::Privilege(
                how,
                ChangePrivilege {
                    group,
                    datastore,
                    allow_create,
                    max_size,
                    total_size
                }
            )
        ),
    ]
}

fn apply(
    config: &mut AccessConfig,
    step: &Step,
    made: usize,
    known: &Surroundings,
) -> Result<Changed, Fault> {
    match step {
        // Ids are fresh, as the port that makes them has it.
        Step::Create(ask) => config.create_group(id(100 + made as u128), ask, known),
        Step::Update(ask) => config.update_group(ask, known),
        Step::Remove(name, force) => config.remove_group(name, *force),
        Step::Close(name) => config.close_group(name, true),
        Step::Members(0, ask) => config.add_members(ask, known),
        Step::Members(1, ask) => config.remove_members(ask, known),
        Step::Members(_, ask) => config.replace_members(ask, known),
        Step::Privilege(0, ask) => config.add_privilege(ask, known),
        Step::Privilege(1, ask) => config.set_privilege(ask, known),
        Step::Privilege(_, ask) => config.remove_privilege(ask, known),
    }
}

fn unique<T: Ord + Clone>(of: impl Iterator<Item = T>) -> bool {
    let all: Vec<T> = of.collect();
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    sorted.len() == all.len()
}

fn check(config: &AccessConfig) {
    assert!(
        unique(config.groups.iter().map(|g| g.name.clone())),
        "names are unique"
    );
    assert!(unique(config.groups.iter().map(|g| g.id)), "ids are unique");
    let members = config
        .groups
        .iter()
        .flat_map(|g| g.vms().iter().map(|vm| vm.uuid));
    assert!(unique(members), "a VM is named once");
    for group in &config.groups {
        let is_default = group.name == GroupName::default_group();
        assert_eq!(is_default, group.id == GroupId::DEFAULT);
        assert_eq!(is_default, group.members == Members::Others);
        assert!(Uuid::try_parse(group.name.as_str()).is_err());
        assert!(
            group.privilege(&group.default_datastore).is_some(),
            "a privilege on its default"
        );
        assert_ne!(group.default_datastore, DatastoreScope::All);
        assert!(unique(
            group.privileges.iter().map(|p| p.datastore.to_string())
        ));
        for p in &group.privileges {
            if let (Some(max), Some(total)) = (p.max_volume, p.total_bytes) {
                assert!(max.bytes() <= total, "a volume's limit is within the total");
            }
        }
    }
    let json = serde_json::to_string(config).unwrap();
    assert_eq!(
        &serde_json::from_str::<AccessConfig>(&json).unwrap(),
        config
    );
}

proptest! {
    #[test]
    fn any_sequence_of_changes_keeps_what_must_hold(
        steps in prop::collection::vec(step(), 1..40), with_volumes in any::<bool>()
    ) {
        let known = if with_volumes { busy() } else { known() };
        let mut config = AccessConfig::open_to_all();
        for (made, step) in steps.iter().enumerate() {
            let before = config.clone();
            match apply(&mut config, step, made, &known) {
                Ok(done) => prop_assert!(!done.what.is_empty()),
                Err(_) => prop_assert_eq!(&config, &before, "a refused change changes nothing"),
            }
            check(&config);
        }
    }
}
