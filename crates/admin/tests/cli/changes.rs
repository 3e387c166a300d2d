//! What every change asks of the agent, however it is written on the command line, and what it says on success.

use std::fs;

use crate::rig::World;

/// Each line asks for exactly this, and says that.
fn same(world: &World, lines: &[&str], asked: &str, said: &str) {
    for line in lines {
        world.forget();
        let ran = world.vdvs(line);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        assert_eq!(world.asked(), [asked], "{line}");
        assert_eq!(ran.out, said, "{line}");
    }
}

#[test]
fn volumes() {
    let world = World::start();
    let set = |address: &str, group: &str| {
        format!(
            "SetVolumeRequest {{ address: \"{address}\", group: \"{group}\", options: {{\"access\": \"read-only\"}}, protect: None }}"
        )
    };
    same(
        &world,
        &[
            "volume set v@ds access=read-only",
            "volume set --volume=v@ds access=read-only",
            "volume set --volume v@ds --options 'access = read-only'",
            "volume set v@ds --options=access=read-only,",
        ],
        &set("v@ds", ""),
        "Successfully updated settings for v@ds\n",
    );
    same(
        &world,
        &["volume set --volume=v@ds --vmgroup=dev --options='access=read-only'"],
        &set("v@ds", "dev"),
        "Successfully updated settings for v@ds\n",
    );
    let protect = |on: bool| {
        format!(
            "SetVolumeRequest {{ address: \"v\", group: \"\", options: {{}}, protect: Some({on}) }}"
        )
    };
    same(
        &world,
        &["volume protect v", "volume protect --volume=v"],
        &protect(true),
        "Volume v is protected: nobody removes it before 'vdvs volume unprotect'\n",
    );
    same(
        &world,
        &["volume unprotect v"],
        &protect(false),
        "Volume v is not protected any more\n",
    );
    let moved = |address: &str, force| {
        format!("MoveVolumeRequest {{ address: \"{address}\", to_group: \"dev\", force: {force} }}")
    };
    same(
        &world,
        &[
            "volume move v dev",
            "volume move v --to-group=dev",
            "volume move --volume=v --to=dev",
            "volume move --volume=v dev",
        ],
        &moved("v", false),
        "Volume v is in vmgroup dev\n",
    );
    same(
        &world,
        &["volume move v dev --force"],
        &moved("v", true),
        "Volume v is in vmgroup dev\n",
    );
    same(
        &world,
        &["volume adopt old --to-group=dev"],
        &moved("0192aaaa-bbbb-7ccc-8ddd-eeee12345605", false),
        "Volume old is in vmgroup dev\n",
    );
    same(
        &world,
        &["volume detach v"],
        "TakeVolumeRequest { address: \"v\", force: false }",
        "Volume v is detached\n",
    );
    same(
        &world,
        &["volume detach v --force --yes"],
        "TakeVolumeRequest { address: \"v\", force: true }",
        "Volume v is detached\n",
    );
    same(
        &world,
        &["vm prepare v w", "vm prepare v --vm=w --controllers=4"],
        "PrepareVmsRequest { vms: [\"v\", \"w\"], controllers: 4 }",
        "",
    );
    same(
        &world,
        &["volume rm -y v", "volume rm --volume=v --yes"],
        "RemoveVolumeRequest { address: \"v\" }",
        "removed v@vsanDatastore\n",
    );
}

#[test]
fn groups() {
    let world = World::start();
    let created =
        "vmgroup 'dev' is created. Do not forget to run 'vmgroup vm add' to add vm to vmgroup.\n";
    same(
        &world,
        &[
            "vmgroup create dev --default-datastore=ds --vm-list=vm1,vm2 --description='the team'",
            "vmgroup create --name=dev --default-datastore ds --vm-list vm1 --vm-list vm2 --description 'the team'",
        ],
        "Create(CreateGroup { name: \"dev\", description: \"the team\", default_datastore: \"ds\", default_size: \"\", vms: [\"vm1\", \"vm2\"], volumes: Unspecified })",
        created,
    );
    same(
        &world,
        &[
            "vmgroup create dev --default-datastore=_VM_DS --default-size=10GB --vm-list=vm1 --move-volumes",
        ],
        "Create(CreateGroup { name: \"dev\", description: \"\", default_datastore: \"_VM_DS\", default_size: \"10GB\", vms: [\"vm1\"], volumes: Move })",
        created,
    );
    same(
        &world,
        &["vmgroup create _DEFAULT --default-datastore=_VM_DS"],
        "Create(CreateGroup { name: \"_DEFAULT\", description: \"\", default_datastore: \"_VM_DS\", default_size: \"\", vms: [], volumes: Unspecified })",
        "vmgroup '_DEFAULT' is created.\n",
    );
    same(
        &world,
        &[
            "vmgroup update dev --description='' --new-name=devs",
            "vmgroup update --name=dev --description= --new-name devs",
        ],
        "Update(UpdateGroup { name: \"dev\", new_name: Some(\"devs\"), description: Some(\"\"), default_datastore: None, default_size: None })",
        "vmgroup modify succeeded\n",
    );
    same(
        &world,
        &["vmgroup update dev --default-datastore=ds2 --default-size=''"],
        "Update(UpdateGroup { name: \"dev\", new_name: None, description: None, default_datastore: Some(\"ds2\"), default_size: Some(\"\") })",
        "vmgroup modify succeeded\n",
    );
    same(
        &world,
        &["vmgroup rm dev --yes", "vmgroup rm --name=dev -y"],
        "Remove(RemoveGroup { name: \"dev\", remove_volumes: false, force: false })",
        "vmgroup rm succeeded\n",
    );
    same(
        &world,
        &["vmgroup rm dev --remove-volumes --force --yes"],
        "Remove(RemoveGroup { name: \"dev\", remove_volumes: true, force: true })",
        "All Volumes will be removed. vmgroup rm succeeded\n",
    );
}

#[test]
fn members() {
    let world = World::start();
    for (verb, how) in [("add", "Add"), ("rm", "Remove"), ("replace", "Replace")] {
        let message = |vms: &str, volumes: &str, names: &str| {
            format!(
                "Members(ChangeMembers {{ how: {how}, group: \"dev\", vms: [{vms}], volumes: {volumes}, volume_names: [{names}] }})"
            )
        };
        let said = format!("vmgroup vm {verb} succeeded\n");
        let both = "\"vm1\", \"vm two\"";
        same(
            &world,
            &[
                &format!("vmgroup vm {verb} dev vm1 'vm two'"),
                &format!("vmgroup vm {verb} --name=dev vm1 'vm two'"),
                &format!("vmgroup vm {verb} --name=dev '--vm-list=vm1,vm two'"),
                &format!("vmgroup vm {verb} dev --vm-list 'vm1, vm two'"),
            ],
            &message(both, "Unspecified", ""),
            &said,
        );
        same(
            &world,
            &[&format!(
                "vmgroup vm {verb} dev --leave-volumes vm1 'vm two'"
            )],
            &message(both, "Leave", ""),
            &said,
        );
        same(
            &world,
            &[&format!("vmgroup vm {verb} dev vm1 --move-volumes=a,b@ds")],
            &message("\"vm1\"", "Move", "\"a\", \"b@ds\""),
            &said,
        );
        same(
            &world,
            &[&format!("vmgroup vm {verb} --move-volumes dev 'vm1,a'")],
            &message("\"vm1,a\"", "Move", ""),
            &said,
        );
    }
    let both = world.vdvs("vmgroup vm add dev vm1 --move-volumes --leave-volumes");
    assert_eq!(both.code, 2);
}

#[test]
fn privileges() {
    let world = World::start();
    for (verb, how) in [("add", "Add"), ("set", "Set")] {
        let message = |allow: &str, max: &str, total: &str| {
            format!(
                "Privilege(ChangePrivilege {{ how: {how}, group: \"dev\", datastore: \"ds2\", allow_create: {allow}, max_size: {max}, total_size: {total} }})"
            )
        };
        let said = format!("vmgroup access {verb} succeeded\n");
        same(
            &world,
            &[
                &format!(
                    "vmgroup access {verb} dev ds2 --volume-maxsize=500MB --volume-totalsize=1GB"
                ),
                &format!(
                    "vmgroup access {verb} --name=dev --datastore=ds2 --volume-maxsize 500MB --volume-totalsize 1GB"
                ),
                &format!(
                    "vmgroup access {verb} --name=dev ds2 --volume-maxsize=500MB --volume-totalsize=1GB"
                ),
                &format!(
                    "vmgroup access {verb} dev --datastore=ds2 --volume-maxsize=500MB --volume-totalsize=1GB"
                ),
            ],
            &message("None", "Some(\"500MB\")", "Some(\"1GB\")"),
            &said,
        );
        same(
            &world,
            &[&format!("vmgroup access {verb} dev ds2 --allow-create")],
            &message("Some(\"True\")", "None", "None"),
            &said,
        );
        // What the value is worth, the agent says.
        for value in ["false", "TRUE", "maybe", ""] {
            same(
                &world,
                &[
                    &format!("vmgroup access {verb} dev ds2 --allow-create='{value}'"),
                    &format!("vmgroup access {verb} dev ds2 --allow-create '{value}'"),
                ],
                &message(&format!("Some(\"{value}\")"), "None", "None"),
                &said,
            );
        }
        same(
            &world,
            &[&format!(
                "vmgroup access {verb} dev ds2 --volume-maxsize=unlimited --volume-totalsize=0"
            )],
            &message("None", "Some(\"unlimited\")", "Some(\"0\")"),
            &said,
        );
    }
    same(
        &world,
        &[
            "vmgroup access rm dev ds2",
            "vmgroup access rm --name=dev --datastore=ds2",
        ],
        "Privilege(ChangePrivilege { how: Remove, group: \"dev\", datastore: \"ds2\", allow_create: None, max_size: None, total_size: None })",
        "vmgroup access rm succeeded\n",
    );
}

#[test]
fn policies() {
    let world = World::start();
    let content = "((\"hostFailuresToTolerate\" i1))";
    let message = |how: &str, content: &str| {
        format!("ChangePolicyRequest {{ how: {how}, name: \"gold\", content: {content:?} }}")
    };
    same(
        &world,
        &[
            &format!("policy create gold '{content}'"),
            &format!("policy create --name=gold --content='{content}'"),
            &format!("policy create --name gold '{content}'"),
        ],
        &message("Create", content),
        "Successfully created policy: gold\n",
    );
    same(
        &world,
        &[&format!("policy update --name=gold --content='{content}'")],
        &message("Update", content),
        "Successfully updated policy gold\n",
    );
    same(
        &world,
        &["policy rm gold", "policy rm --name=gold"],
        &message("Remove", ""),
        "Successfully removed policy: gold\n",
    );
}

#[test]
fn the_configuration() {
    let world = World::start();
    let asked = |change: &str, dry_run: bool| {
        format!("ChangeConfigRequest {{ dry_run: {dry_run}, change: Some({change}) }}")
    };
    let said = |verb: &str| format!("one line\nconfig {verb} succeeded\n! read this too\n");
    let init = "Init(InitConfig { datastore: \"ds\", local: false, force: false })";
    same(
        &world,
        &["config init --datastore=ds"],
        &asked(init, false),
        &said("init"),
    );
    // Which of them may be said together, the agent knows.
    let init = "Init(InitConfig { datastore: \"ds\", local: true, force: true })";
    same(
        &world,
        &["config init --local --force --datastore ds"],
        &asked(init, false),
        &said("init"),
    );
    let rm = "Remove(RemoveConfig { local: true, unlink: false, confirm: true, no_backup: true })";
    same(
        &world,
        &[
            "config rm --local --no-backup --confirm",
            "config rm --local --no-backup --yes",
        ],
        &asked(rm, false),
        &said("rm"),
    );
    let mv = "Move(MoveConfig { to: \"ds2\", force: true })";
    same(
        &world,
        &["config mv --to=ds2 --force", "config mv ds2 --force"],
        &asked(mv, false),
        &said("mv"),
    );
    assert_eq!(world.vdvs("config mv ds2 --to=ds3").code, 2);
}

#[test]
fn files_go_in_and_out_whole() {
    let world = World::start();
    let path = |name: &str| world.dir.path().join(name);
    let (saved, database) = (path("saved.json"), path("auth-db"));
    let line = format!("config backup {}", saved.display());
    let ran = world.vdvs(&line);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    let json = fs::read_to_string(&saved).unwrap();
    assert_eq!(json, world.vdvs("config backup").out.trim_end());
    let again = world.vdvs(&line);
    assert_eq!(again.code, 4, "{}", again.err);

    let restore = format!("config restore {}", saved.display());
    let refused = world.vdvs(&restore);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(world.asked().is_empty());
    for (more, dry_run) in [("--yes", false), ("--dry-run", true)] {
        world.forget();
        assert_eq!(world.vdvs(&format!("{restore} {more}")).code, 0);
        let expected = format!(
            "ChangeConfigRequest {{ dry_run: {dry_run}, change: Some(Restore(RestoreConfig {{ json: {json:?} }})) }}"
        );
        assert_eq!(world.asked(), [expected]);
    }

    fs::write(&database, [0, 159, 146, 150]).unwrap();
    world.forget();
    let import = format!("config import {} --datastore=ds", database.display());
    let dry = world.vdvs(&format!("{import} --dry-run"));
    assert!(dry.out.contains("Nothing was changed"), "{}", dry.out);
    assert_eq!(world.vdvs(&format!("{import} --yes")).code, 0);
    let sent = |dry_run| {
        format!(
            "ChangeConfigRequest {{ dry_run: {dry_run}, change: Some(Import(ImportConfig {{ database: [0, 159, 146, 150], datastore: \"ds\" }})) }}"
        )
    };
    assert_eq!(world.asked(), [sent(true), sent(false)]);
    let not_text = world.vdvs(&format!("config restore {} --yes", database.display()));
    assert_eq!(not_text.code, 2);
    assert!(not_text.err.contains("config import"), "{}", not_text.err);
    let missing = world.vdvs(&format!("config import {} --yes", path("none").display()));
    assert_eq!(missing.code, 2);
}

#[test]
fn warnings_and_lines_are_shown_with_the_success() {
    let world = World::start();
    let ran = world.vdvs("vmgroup vm add warned vm1");
    assert_eq!(
        ran.out,
        "one line\nvmgroup vm add succeeded\n! read this too\n"
    );
}
