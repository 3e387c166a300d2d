//! From a command's options to what is asked of the agent. Sizes, names and truth values travel as they were typed: the
//! agent reads them, so that its texts stand once. What only this face knows is checked here, in the original's words.

use std::collections::BTreeMap;

use vdvs_api::v1;
use vdvs_api::v1::change_config_request::Change as ConfigChange;
use vdvs_api::v1::change_members::How as MembersHow;
use vdvs_api::v1::change_policy_request::How as PolicyHow;
use vdvs_api::v1::change_privilege::How as PrivilegeHow;

use super::argparse::Given;
use super::tree::Act;
use crate::ops::volume::{options, refused};

/// A change the agent is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Settings of a volume: address, vmgroup, options.
    Volume(String, String, BTreeMap<String, String>),
    /// A policy: its name and content.
    Policy(PolicyHow, String, String),
    /// A new vmgroup.
    CreateGroup(v1::CreateGroup),
    /// A vmgroup's name, description or datastore.
    UpdateGroup(v1::UpdateGroup),
    /// A vmgroup that goes.
    RemoveGroup(v1::RemoveGroup),
    /// A vmgroup's VMs.
    Members(v1::ChangeMembers),
    /// A vmgroup's access to a datastore.
    Privilege(v1::ChangePrivilege),
    /// The configuration.
    Config(ConfigChange),
}

/// The change, none for commands that only ask, or what is wrong with the options.
pub(crate) fn change(act: Act, given: &Given) -> Result<Option<Change>, String> {
    Ok(Some(match act {
        Act::VolumeSet => set_volume(given)?,
        Act::PolicyCreate => policy(PolicyHow::Create, given),
        Act::PolicyUpdate => policy(PolicyHow::Update, given),
        Act::PolicyRm => policy(PolicyHow::Remove, given),
        Act::GroupCreate => create_group(given)?,
        Act::GroupUpdate => update_group(given),
        Act::GroupRm => Change::RemoveGroup(v1::RemoveGroup {
            name: given.text("name"),
            remove_volumes: given.has("remove-volumes"),
            force: given.has("force"),
        }),
        Act::VmAdd => members(MembersHow::Add, given)?,
        Act::VmRm => members(MembersHow::Remove, given)?,
        Act::VmReplace => members(MembersHow::Replace, given)?,
        Act::AccessAdd => privilege(PrivilegeHow::Add, given),
        Act::AccessSet => privilege(PrivilegeHow::Set, given),
        Act::AccessRm => privilege(PrivilegeHow::Remove, given),
        Act::ConfigInit => Change::Config(ConfigChange::Init(init(given)?)),
        Act::ConfigRm => Change::Config(ConfigChange::Remove(remove(given)?)),
        Act::ConfigMv => Change::Config(ConfigChange::Move(relocate(given)?)),
        Act::VolumeLs
        | Act::PolicyLs
        | Act::GroupLs
        | Act::VmLs
        | Act::AccessLs
        | Act::ConfigStatus
        | Act::Status => return Ok(None),
    }))
}

fn set_volume(given: &Given) -> Result<Change, String> {
    let (volume, typed) = (given.text("volume"), given.text("options"));
    match options([typed.as_str()]) {
        Ok(options) => Ok(Change::Volume(volume, given.text("vmgroup"), options)),
        Err(failure) => Err(refused(&typed, &volume, &failure.text)),
    }
}

fn policy(how: PolicyHow, given: &Given) -> Change {
    Change::Policy(how, given.text("name"), given.text("content"))
}

fn volumes(given: &Given) -> Result<v1::Volumes, String> {
    match (given.has("move-volumes"), given.has("leave-volumes")) {
        (true, true) => {
            Err("only one of '--move-volumes' or '--leave-volumes' can be set".to_owned())
        }
        (true, false) => Ok(v1::Volumes::Move),
        (false, true) => Ok(v1::Volumes::Leave),
        (false, false) => Ok(v1::Volumes::Unspecified),
    }
}

fn present(given: &Given, name: &str) -> Option<String> {
    given.get(name).map(str::to_owned)
}

fn create_group(given: &Given) -> Result<Change, String> {
    if given.has("vm-list") && given.list("vm-list").is_empty() {
        let text = "VM list cannot be empty; leave --vm-list out to make a vmgroup without VMs";
        return Err(text.to_owned());
    }
    Ok(Change::CreateGroup(v1::CreateGroup {
        name: given.text("name"),
        description: given.text("description"),
        default_datastore: given.text("default-datastore"),
        default_size: given.text("default-size"),
        vms: given.list("vm-list"),
        volumes: volumes(given)?.into(),
    }))
}

fn update_group(given: &Given) -> Change {
    Change::UpdateGroup(v1::UpdateGroup {
        name: given.text("name"),
        new_name: present(given, "new-name"),
        description: present(given, "description"),
        default_datastore: present(given, "default-datastore"),
        default_size: present(given, "default-size"),
    })
}

fn members(how: MembersHow, given: &Given) -> Result<Change, String> {
    Ok(Change::Members(v1::ChangeMembers {
        how: how.into(),
        group: given.text("name"),
        vms: given.list("vm-list"),
        volumes: volumes(given)?.into(),
        volume_names: Vec::new(),
    }))
}

fn privilege(how: PrivilegeHow, given: &Given) -> Change {
    let allow_create = match (how, given.get("allow-create")) {
        // A flag there, a value here.
        (PrivilegeHow::Add, typed) => {
            Some(if typed.is_some() { "true" } else { "false" }.to_owned())
        }
        (_, typed) => typed.map(str::to_owned),
    };
    Change::Privilege(v1::ChangePrivilege {
        how: how.into(),
        group: given.text("name"),
        datastore: given.text("datastore"),
        allow_create: allow_create.filter(|_| how != PrivilegeHow::Remove),
        max_size: present(given, "volume-maxsize"),
        total_size: present(given, "volume-totalsize"),
    })
}

fn relocate(given: &Given) -> Result<v1::MoveConfig, String> {
    if given.has("force") {
        return Ok(v1::MoveConfig {
            to: given.text("to"),
            force: true,
        });
    }
    Err("Configuration move to a different location requires '--force' flag".to_owned())
}

fn init(given: &Given) -> Result<v1::InitConfig, String> {
    match (given.has("datastore"), given.has("local")) {
        (true, true) => Err("Error: only one of '--datastore' or '--local' can be set".to_owned()),
        (false, false) => Err("Error: one of '--datastore' or '--local' have to be set".to_owned()),
        (_, local) => Ok(v1::InitConfig {
            datastore: given.text("datastore"),
            local,
            force: given.has("force"),
        }),
    }
}

fn remove(given: &Given) -> Result<v1::RemoveConfig, String> {
    match (given.has("local"), given.has("unlink")) {
        (true, true) => Err("Error: only one of '--local' or '--unlink' can be set".to_owned()),
        (false, false) => Err("Error: one of '--local' or '--unlink' have to be set".to_owned()),
        _ if !given.has("confirm") => Err(
            "Warning: For extra safety, removal operation requires '--confirm' flag.".to_owned(),
        ),
        (local, unlink) => Ok(v1::RemoveConfig {
            local,
            unlink,
            confirm: true,
            no_backup: given.has("no-backup"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::argparse::parse;

    fn read(words: &[&str]) -> Result<Change, String> {
        let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
        let parsed = parse(&words).unwrap();
        change(parsed.verb.act, &parsed.given).map(Option::unwrap)
    }

    fn line(line: &str) -> Result<Change, String> {
        read(&line.split(' ').collect::<Vec<_>>())
    }

    fn privilege_of(text: &str) -> v1::ChangePrivilege {
        match line(text).unwrap() {
            Change::Privilege(change) => change,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_lose_their_blanks_and_keep_what_follows_the_first_equals_sign() {
        let Ok(Change::Volume(volume, group, options)) = read(&[
            "volume",
            "set",
            "--volume=v@ds",
            "--vmgroup=dev",
            "--options= access = read-only , x=a=b ",
        ]) else {
            panic!("no change of a volume");
        };
        assert_eq!((volume.as_str(), group.as_str()), ("v@ds", "dev"));
        assert_eq!(
            (options["access"].as_str(), options["x"].as_str()),
            ("read-only", "a=b")
        );
        let wrong = line("volume set --volume=v@ds --vmgroup=dev --options=access").unwrap_err();
        assert!(
            wrong.starts_with("Failed to update access for v@ds - "),
            "{wrong}"
        );
        line("volume set --volume=v@ds --vmgroup=dev --options=,").unwrap_err();
    }

    #[test]
    fn what_an_update_does_not_name_stays_and_what_is_empty_is_cleared() {
        assert_eq!(
            line("vmgroup update --name=dev --description=").unwrap(),
            Change::UpdateGroup(v1::UpdateGroup {
                name: "dev".to_owned(),
                description: Some(String::new()),
                ..v1::UpdateGroup::default()
            })
        );
    }

    #[test]
    fn volumes_of_vms_that_change_groups_move_or_stay_but_not_both() {
        let all = "vmgroup vm add --name=dev --vm-list=a,b --move-volumes";
        match line(all).unwrap() {
            Change::Members(change) => {
                assert_eq!(change.vms, ["a", "b"]);
                assert_eq!(change.volumes(), v1::Volumes::Move);
                assert_eq!(change.how(), MembersHow::Add);
            }
            other => panic!("{other:?}"),
        }
        assert!(
            line(&format!("{all} --leave-volumes"))
                .unwrap_err()
                .contains("only one of")
        );
    }

    #[test]
    fn a_list_of_vms_that_is_given_and_empty_is_refused() {
        let create = "vmgroup create --name=dev --default-datastore=ds";
        assert!(line(create).is_ok());
        for empty in ["--vm-list=", "--vm-list=,"] {
            let wrong = line(&format!("{create} {empty}")).unwrap_err();
            assert!(wrong.starts_with("VM list cannot be empty"), "{wrong}");
        }
    }

    #[test]
    fn leave_to_create_is_a_flag_when_added_and_a_value_when_set() {
        let add = "vmgroup access add --name=dev --datastore=ds";
        assert_eq!(privilege_of(add).allow_create.unwrap(), "false");
        assert_eq!(
            privilege_of(&format!("{add} --allow-create"))
                .allow_create
                .unwrap(),
            "true"
        );
        let set = "vmgroup access set --name=dev --datastore=ds";
        assert_eq!(privilege_of(set).allow_create, None);
        // What is no truth value, the agent refuses in the original's words.
        assert_eq!(
            privilege_of(&format!("{set} --allow-create=maybe"))
                .allow_create
                .unwrap(),
            "maybe"
        );
        assert_eq!(
            privilege_of(&format!("{set} --volume-maxsize=0"))
                .max_size
                .unwrap(),
            "0"
        );
        assert_eq!(
            privilege_of("vmgroup access rm --name=dev --datastore=ds").allow_create,
            None
        );
    }

    #[test]
    fn the_configurations_verbs_refuse_in_the_originals_words() {
        for (text, wrong) in [
            (
                "config init",
                "Error: one of '--datastore' or '--local' have to be set",
            ),
            (
                "config init --local --datastore=ds",
                "Error: only one of '--datastore' or '--local' can be set",
            ),
            (
                "config rm --local",
                "Warning: For extra safety, removal operation requires '--confirm' flag.",
            ),
            (
                "config rm",
                "Error: one of '--local' or '--unlink' have to be set",
            ),
            (
                "config rm --local --unlink --confirm",
                "Error: only one of '--local' or '--unlink' can be set",
            ),
            (
                "config mv --to=ds",
                "Configuration move to a different location requires '--force' flag",
            ),
        ] {
            assert_eq!(line(text).unwrap_err(), wrong, "{text}");
        }
    }

    /// Row A-3 of the original: it said so, and removed nothing.
    #[test]
    fn a3_no_backup_does_not_keep_the_configuration_from_being_removed() {
        let remove = v1::RemoveConfig {
            local: true,
            unlink: false,
            confirm: true,
            no_backup: true,
        };
        assert_eq!(
            line("config rm --local --no-backup --confirm").unwrap(),
            Change::Config(ConfigChange::Remove(remove))
        );
    }
}
