//! Both faces, from the command line to what they print, against an agent that answers from a table. The commands are
//! those of the original's manual, each at least once.

mod canned;
mod fake;

use std::fs;

use insta::assert_snapshot;
use roxmltree::{Document, Node};

use self::fake::World;
use super::script::Said;
use super::{Connection, esxcli, script, table, tree};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn told(said: &Said) -> String {
    let err = if said.err.is_empty() {
        String::new()
    } else {
        format!("--- standard error\n{}", said.err)
    };
    // Trailing blanks are part of the layout; a bar makes them visible.
    let out: String = said
        .out
        .split_inclusive('\n')
        .map(|l| l.replace(" \n", " |\n"))
        .collect();
    format!("{out}{err}--- exit code {}\n", said.code)
}

/// Every command of this face in turn: what is typed, what the agent is asked, what is printed.
fn story(lines: &[&str], face: fn(&[String], &Connection) -> Said) -> String {
    let world = World::start();
    let connection = world.connection();
    let mut story = String::new();
    for line in lines {
        let said = face(&words(line), &connection);
        let changes = world
            .asked()
            .into_iter()
            .filter(|a| !a.starts_with("list_") && a.contains("id: \"…"));
        let changes: String = changes.map(|a| format!("> {a}\n")).collect();
        story += &format!("# {line}\n{changes}{}\n", told(&said));
    }
    story
}

#[test]
fn volume_commands() {
    assert_snapshot!(story(
        &[
            "volume ls",
            "volume ls -c volume,used,attached-to,created",
            "volume ls --vmgroup=d*",
            "volume set --volume=vol1@sharedVmfs-0 --vmgroup=_DEFAULT --options=access=read-only",
            "volume set --volume=nobody@sharedVmfs-0 --vmgroup=_DEFAULT --options=access=read-only",
            "volume set --volume=vol1@sharedVmfs-0 --vmgroup=_DEFAULT --options=access",
        ],
        script::run
    ));
}

#[test]
fn policy_commands() {
    assert_snapshot!(story(
        &[
            "policy create --name=gold --content=((\"hostFailuresToTolerate\"i1))",
            "policy rm --name=gold",
            "policy ls",
            "policy update --name=gold --content=((\"hostFailuresToTolerate\"i2))",
            "policy update --name=gold --content=unsatisfiable",
            "policy rm --name=nobody",
        ],
        script::run
    ));
}

#[test]
fn vmgroup_commands() {
    assert_snapshot!(story(
        &[
            "vmgroup create --name=dev --default-datastore=vsanDatastore --vm-list=vm1,vm2 --description=text",
            "vmgroup create --name=_DEFAULT --default-datastore=_VM_DS",
            "vmgroup update --name=dev --new-name=test --description= --default-datastore=ds2",
            "vmgroup rm --name=dev",
            "vmgroup rm --name=dev --remove-volumes --force",
            "vmgroup ls",
            "vmgroup vm add --name=dev --vm-list=vm1,vm2",
            "vmgroup vm rm --name=dev --vm-list=vm1 --leave-volumes",
            "vmgroup vm replace --name=dev --vm-list=vm1 --move-volumes",
            "vmgroup vm ls --name=dev",
            "vmgroup vm ls --name=_DEFAULT",
            "vmgroup access add --name=dev --datastore=ds2 --volume-maxsize=500MB --volume-totalsize=1GB",
            "vmgroup access add --name=dev --datastore=ds2 --allow-create",
            "vmgroup access set --name=dev --datastore=ds2 --allow-create=False --volume-maxsize=0",
            "vmgroup access rm --name=dev --datastore=ds2",
            "vmgroup access ls --name=dev",
            "vmgroup access ls --name=other",
        ],
        script::run
    ));
}

#[test]
fn config_and_status_commands() {
    assert_snapshot!(story(
        &[
            "config init --datastore=ds2",
            "config init --local --force",
            "config init",
            "config init --local --datastore=ds2",
            "config rm --unlink --confirm",
            "config rm --local --no-backup --confirm",
            "config rm --local",
            "config mv --to=ds2 --force",
            "config mv --to=ds2",
            "config status",
            "status",
            "status --fast",
        ],
        script::run
    ));
}

#[test]
fn the_script_in_xml() {
    assert_snapshot!(story(
        &[
            "--output-format xml volume ls --vmgroup=d*",
            "--output-format=xml vmgroup vm add --name=dev --vm-list=vm1",
            "--output-format=xml policy rm --name=nobody",
        ],
        script::run
    ));
}

#[test]
fn help_of_every_level() {
    let levels = [
        "",
        "volume",
        "policy",
        "vmgroup",
        "vmgroup vm",
        "vmgroup access",
        "config",
    ];
    let help = |path: &str| {
        let said = script::run(&words(&format!("{path} -h")), &Connection::nowhere());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{path}");
        said.out + "\n"
    };
    let verbs = tree::verbs().into_iter().map(|(path, _)| path.join(" "));
    let verbs = verbs.filter(|path| path != "volume shortls");
    let all = levels.iter().map(|l| (*l).to_owned()).chain(verbs);
    assert_snapshot!(all.map(|path| help(&path)).collect::<String>());
}

#[test]
fn exit_codes_are_the_originals() {
    let world = World::start();
    let nowhere = Connection::nowhere();
    let there = world.connection();
    for (line, connection, code) in [
        ("policy ls", &there, 0),
        ("policy ls", &nowhere, 1),
        ("policy rm --name=nobody", &there, 2),
        ("policy rm", &there, 2),
        ("policies", &nowhere, 2),
        ("", &nowhere, 3),
        ("policy", &nowhere, 3),
        ("policy -h", &nowhere, 0),
        // Stopped is an answer, not a failure.
        ("status", &nowhere, 0),
    ] {
        assert_eq!(script::run(&words(line), connection).code, code, "{line}");
    }
}

#[test]
fn without_an_agent_the_scripts_text_says_so_and_what_to_do() {
    let said = script::run(&words("policy ls"), &Connection::nowhere());
    assert!(said.out.is_empty());
    assert!(
        said.err
            .starts_with("Unable to connect to the host-agent on this host, ensure "),
        "{}",
        said.err
    );
    assert!(said.err.contains("Start vdvsd"), "{}", said.err);
    let status = script::run(&words("status"), &Connection::nowhere());
    assert_snapshot!(told(&Said {
        err: String::new(),
        ..status
    }));
}

/// Row A-18 of the original: errors were plain text where XML was asked for, one exit code stood for everything, help
/// needed a running host agent.
#[test]
fn a18_errors_are_documents_with_an_exit_code_of_their_own_and_help_needs_nobody() {
    let world = World::start();
    for (line, code, text) in [
        (
            "policy rm --name=nobody",
            3,
            "ERROR:Volume nobody not found",
        ),
        ("policy rm", 2, "ERROR:--name is missing"),
    ] {
        let said = esxcli::run(&words(line), &world.connection());
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{line}");
        let document = Document::parse(&said.out).unwrap();
        let string = document.root_element().first_element_child().unwrap();
        assert!(
            string.text().unwrap().starts_with(text),
            "{line}: {}",
            said.out
        );
    }
    assert_eq!(
        script::run(&words("volume ls -h"), &Connection::nowhere()).code,
        0
    );
}

/// Row S-19 of the original: command lines were put together as text, so a name with a blank or a quote became others.
#[test]
fn s19_what_a_shell_would_take_for_itself_reaches_the_agent_as_it_is() {
    let world = World::start();
    let hostile = "my vm; $(reboot) 'x' \"y\" `z` a=b --force &";
    for list in [
        format!("--vm-list={hostile}"),
        format!("--vm-list= {hostile} "),
    ] {
        let line = [words("vmgroup vm add --name=dev"), vec![list]].concat();
        for face in [esxcli::run, script::run] {
            assert_eq!(face(&line, &world.connection()).code, 0);
            let asked = world.asked().concat();
            assert!(asked.contains(&format!("vms: [{hostile:?}]")), "{asked}");
        }
    }
}

/// Row A-4 of the original: errors of `config init` were tracebacks. Here they are refusals like any other.
#[test]
fn a4_a_failing_init_is_one_line_of_text() {
    let world = World::start();
    let said = script::run(
        &words("config init --datastore=nobody"),
        &world.connection(),
    );
    assert_eq!((said.code, said.err.as_str()), (2, ""));
    assert!(said.out.starts_with("ERROR:"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 1);
}

#[test]
fn every_command_of_the_program_answers_esxcli() {
    let world = World::start();
    let file = world.file("config.json");
    fs::write(&file, "{}").unwrap();
    let file = file.display();
    let lines = [
        "volume ls".to_owned(),
        "volume shortls".to_owned(),
        "volume inspect --volume=vol1".to_owned(),
        "volume why --volume vol1".to_owned(),
        "volume rm --volume=vol1 --yes".to_owned(),
        "volume move --volume=vol1 --to-group=dev".to_owned(),
        "volume adopt --volume=vol1 --to-group=dev".to_owned(),
        "volume detach --volume=vol1".to_owned(),
        "volume detach --volume=vol1 --force".to_owned(),
        "volume detach --volume=vol1 --force --yes".to_owned(),
        "volume protect --volume=vol1".to_owned(),
        "volume unprotect --volume=vol1".to_owned(),
        "volume set --volume=vol1 --vmgroup=dev --options=access=read-only".to_owned(),
        "vmgroup show --name=dev".to_owned(),
        "vmgroup ls".to_owned(),
        "policy ls".to_owned(),
        "policy update --name=gold --content=x".to_owned(),
        "config history".to_owned(),
        "config backup".to_owned(),
        format!("config restore --file={file} --yes"),
        format!("config import --file={file} --dry-run"),
        "config status".to_owned(),
        "vm ls".to_owned(),
        "vm prepare --vm=swarm01".to_owned(),
        "host ls".to_owned(),
        "datastore ls".to_owned(),
        "audit ls --denials --limit=5".to_owned(),
        "audit export".to_owned(),
        "work ls".to_owned(),
        "work show --id=w-1".to_owned(),
        "work show --id=w-failed".to_owned(),
        "status --fast".to_owned(),
    ];
    let mut story = String::new();
    for line in &lines {
        let said = esxcli::run(&words(line), &world.connection());
        assert!(said.err.is_empty(), "{line}: {}", said.err);
        let asked = world.asked().into_iter().filter(|a| a.contains("id: \"…"));
        let asked: String = asked.map(|a| format!("> {a}\n")).collect();
        story += &format!(
            "# {line}\n{asked}{}exit code {}\n\n",
            gist(&said.out),
            said.code
        );
    }
    assert_snapshot!(story.replace(&file.to_string(), "/tmp/config.json"));
}

/// A message's first line, or a list's size and its first structure. How views look to people is shown elsewhere.
fn gist(xml: &str) -> String {
    let document = Document::parse(xml).unwrap();
    let inside = document.root_element().first_element_child().unwrap();
    if inside.tag_name().name() == "string" {
        let text = inside.text().unwrap_or_default();
        return text.lines().next().unwrap_or_default().to_owned() + "\n";
    }
    let structures: Vec<_> = inside.children().filter(Node::is_element).collect();
    let named = fields(structures[0]).into_iter();
    let strings = structures[0]
        .descendants()
        .filter(|n| n.tag_name().name() == "string");
    let cells = named
        .zip(strings)
        .map(|(name, n)| format!("  {name}: {}\n", n.text().unwrap_or_default()));
    format!(
        "{} structures, the first of them\n{}",
        structures.len(),
        cells.collect::<String>()
    )
}

/// What is declared is what comes: a list's fields, or one string.
#[test]
fn answers_have_the_shape_that_the_definition_declares() {
    let definition = super::definition("/bin/vdvs");
    let definition = Document::parse(&definition).unwrap();
    let world = World::start();
    let mut lists = 0;
    for command in definition
        .descendants()
        .filter(|n| n.tag_name().name() == "command")
    {
        let path = command
            .attribute("path")
            .unwrap()
            .replace("storage.guestvol.", "")
            .replace('.', " ");
        let required = command
            .descendants()
            .filter(|n| n.attribute("required") == Some("true"));
        let given = required.map(|n| format!("--{}=dev", n.attribute("name").unwrap()));
        let line = [words(&path), given.collect()].concat();
        let declared = fields(command);
        if declared.is_empty() {
            continue;
        }
        let said = esxcli::run(&line, &world.connection());
        assert_eq!(said.code, 0, "{path}: {}", said.out);
        let answer = Document::parse(&said.out).unwrap();
        let first = answer
            .descendants()
            .find(|n| n.tag_name().name() == "structure")
            .unwrap();
        assert_eq!(fields(first), declared, "{path}");
        lists += 1;
    }
    assert_eq!(lists, 15);
}

fn fields(node: Node<'_, '_>) -> Vec<String> {
    let fields = node
        .descendants()
        .filter(|n| n.tag_name().name() == "field");
    fields
        .map(|n| n.attribute("name").unwrap().to_owned())
        .collect()
}

#[test]
fn the_originals_example_keeps_its_layout() {
    let row = [
        "vol1",
        "sharedVmfs-0",
        "_DEFAULT",
        "100MB",
        "13MB",
        "ext4",
        "N/A",
        "thin",
        "detached",
        "read-write",
        "independent_persistent",
        "ubuntu-VM0.0",
        "Mon Aug 21 04:36:08 2017",
    ];
    let header: Vec<&str> = tree::VOLUME_COLUMNS.iter().map(|(_, h)| *h).collect();
    let rows = [row.map(str::to_owned).to_vec()];
    let wide = table::render(&header, &rows, 200);
    assert_eq!(
        wide.lines().next().unwrap().trim_end(),
        "Volume  Datastore     VMGroup   Capacity  Used  Filesystem  Policy  Disk Format  Attached-to  Access      \
         Attach-as               Created By    Created Date"
    );
    assert_eq!(
        wide.lines().nth(1).unwrap().trim_end(),
        "------  ------------  --------  --------  ----  ----------  ------  -----------  -----------  ----------  \
         ----------------------  ------------  ------------------------"
    );
    let narrow = table::render(&header, &rows, 80);
    assert!(narrow.lines().all(|l| l.chars().count() == 82), "{narrow}");
}
