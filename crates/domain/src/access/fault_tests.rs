//! Texts of refusals.

use super::*;

/// The codes and texts that the original's management produced, with what was filled in.
#[test]
fn the_originals_words_stand_first() {
    let dev = || GroupName::new("dev").unwrap();
    let vm = || "vm1".to_owned();
    let mounted = |change| Fault::VolumesMounted {
        change,
        vm: vm(),
        volumes: vec!["v@ds1".to_owned()],
    };
    let ds = || "ds1".to_owned();
    let rows: Vec<(u16, Fault, &str)> = vec![
        (
            2,
            Fault::NoSuchGroup { name: "dev".into() },
            "Vmgroup dev does not exist",
        ),
        (
            3,
            Fault::GroupExists { name: dev() },
            "Vmgroup dev already exists",
        ),
        (
            3,
            Fault::GroupExistsWithout {
                name: dev(),
                vms: "vm1,vm2".to_owned(),
                volumes: " --move-volumes",
            },
            "Vmgroup dev already exists",
        ),
        (
            8,
            Fault::NameInvalid {
                name: "a b".into(),
                allowed: NAME_PATTERN,
                why: "",
            },
            "Vmgroup name a b is invalid, only [a-zA-Z0-9_][a-zA-Z0-9_.-]* is allowed",
        ),
        (
            9,
            Fault::NotEmpty { name: dev() },
            "Cannot delete non-empty vmgroup dev. Remove VMs from the vmgroup before deleting it.",
        ),
        (
            101,
            Fault::NoSuchVm {
                names: vec![vm(), "vm2".into()],
            },
            "Cannot find vm vm1,vm2",
        ),
        (
            101,
            Fault::VmsAlike {
                name: vm(),
                found: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            },
            "Cannot find vm vm1; several VMs have that name, give the instance UUID of one: \
             00000000-0000-0000-0000-000000000001, 00000000-0000-0000-0000-000000000002",
        ),
        (102, Fault::ReplaceByNone, "Replace VM cannot be empty"),
        (
            103,
            Fault::AlreadyMember {
                vm: vm(),
                group: dev(),
            },
            "VM 'vm1' has already been associated with tenant 'dev', cannot add it again",
        ),
        (
            104,
            Fault::NotAMember {
                vm: vm(),
                group: dev(),
            },
            "VM 'vm1' has not been associated with tenant 'dev', cannot remove it",
        ),
        (
            105,
            Fault::InAnotherGroup {
                vm: vm(),
                group: dev(),
            },
            "VM 'vm1' has already been associated with tenant 'dev', can't add it",
        ),
        (106, Fault::NoVms, "VM list cannot be empty"),
        (
            107,
            Fault::DuplicateVms {
                vms: vec![vm(), vm()],
            },
            "VMs ['vm1', 'vm1'] contain duplicates, they should be unique",
        ),
        (
            108,
            mounted(MemberChange::Add),
            "Cannot add VM to vmgroup VM 'vm1' has volumes mounted.",
        ),
        (
            108,
            mounted(MemberChange::Remove),
            "Cannot complete vmgroup vm rm. VM 'vm1' has volumes mounted.",
        ),
        (
            108,
            mounted(MemberChange::Replace),
            "Cannot complete vmgroup vm replace. VM 'vm1' has volumes mounted.",
        ),
        (
            201,
            Fault::NoSuchPrivilege {
                group: dev(),
                datastore: ds(),
            },
            "No access privilege exists for (dev, ds1)",
        ),
        (
            202,
            Fault::PrivilegeExists {
                group: dev(),
                datastore: ds(),
            },
            "Access privilege for (dev, ds1) already exists",
        ),
        (
            203,
            Fault::MaxAboveTotal {
                max_bytes: 2 << 30,
                total_bytes: 1 << 30,
            },
            "Volume max size 2048MB exceeds the total size 1024MB",
        ),
        (
            204,
            Fault::AllowCreateInvalid {
                value: "yes".into(),
            },
            "Invalid value yes for allow-create option",
        ),
        (
            205,
            Fault::DefaultPrivilege { group: dev() },
            "Removing of access privilege to 'default_datastore' is not supported",
        ),
        (
            302,
            Fault::NoSuchDatastore { name: ds() },
            "Datastore ds1 does not exist",
        ),
        (
            303,
            Fault::DefaultDatastoreInvalid { name: "/".into() },
            "Default datastore name / is invalid",
        ),
        (
            305,
            Fault::AllAsDefault,
            "Cannot use _ALL_DS as default datastore. Please use specific datastore name or _VM_DS special datastore",
        ),
        (401, Fault::NameEmpty, "Vmgroup name is empty"),
        (
            402,
            Fault::NameTooLong { name: "n".into() },
            "Vmgroup name exceeds 64 characters: n",
        ),
        (
            403,
            Fault::DescriptionTooLong {
                description: "d".into(),
            },
            "Vmgroup description exceeds 256 characters: d",
        ),
        (
            501,
            Fault::HasVolumes {
                name: dev(),
                count: 1,
                volumes: vec!["v@ds1".into()],
            },
            "Internal Error(The vmgroup has volumes in it, these must be removed/migrated before deleting the vmgroup.)",
        ),
        (
            502,
            Fault::InvalidArgument {
                what: "x".into(),
                advice: "y",
            },
            "Invalid Argument(x)",
        ),
        (
            504,
            Fault::NotForDefault {
                name: GroupName::default_group(),
            },
            "This feature is not supported for vmgroup _DEFAULT.",
        ),
        (
            504,
            Fault::EverybodyElse {
                name: GroupName::default_group(),
            },
            "_DEFAULT tenant contains all VMs which were not added to other tenants",
        ),
        (
            505,
            Fault::NotConfigured,
            "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.",
        ),
        (
            507,
            Fault::SizeInvalid {
                what: "--volume-maxsize",
                given: "x".into(),
            },
            "Invalid volume size specified.",
        ),
    ];
    for (code, fault, text) in rows {
        assert_eq!(fault.code(), code, "{fault}");
        let said = fault.to_string();
        assert!(said.starts_with(text), "{said}");
    }
}
