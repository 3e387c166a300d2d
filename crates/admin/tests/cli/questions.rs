//! The question before what cannot be undone, as a person at a terminal gets it.

use std::fs::{File, write};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::rig::{Ran, World, command};

/// Runs the program at a terminal where a person types this answer.
fn at_terminal(world: &World, line: &str, answer: &str) -> Ran {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let inside = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut person = File::from(terminal);
    // Typed ahead: the terminal keeps it until somebody reads.
    person.write_all(answer.as_bytes()).unwrap();
    let mut child = command(&world.socket(), line)
        .stdin(Stdio::from(inside))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let code = child.wait().unwrap().code().unwrap();
    let read = |mut from: Box<dyn Read>| {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    };
    Ran {
        code,
        out: read(Box::new(child.stdout.take().unwrap())),
        err: read(Box::new(child.stderr.take().unwrap())),
    }
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn a_person_sees_what_would_be_lost_and_decides() {
    let world = World::start();
    let dir = world.dir.path();
    let (backup, database) = (file(dir, "b.json", b"{}"), file(dir, "auth-db", b"SQLite"));
    for (line, question) in [
        (
            "volume rm reports".to_owned(),
            "Remove volume reports@vsanDatastore of group dev (1GB, 47MB used, attached) and all its data? [y/N] ",
        ),
        (
            "volume detach --force reports".to_owned(),
            "Take volume reports@vsanDatastore of group dev (1GB, 47MB used, attached) from VM swarm01? What the VM has not written yet is lost",
        ),
        (
            "vmgroup rm dev".to_owned(),
            "Remove vmgroup dev (3 VMs)? [y/N] ",
        ),
        (
            "vmgroup rm _DEFAULT".to_owned(),
            "every VM that no other vmgroup names; they may use no volumes then",
        ),
        (
            "vmgroup rm dev --remove-volumes".to_owned(),
            "its 4 volumes and all their data?\n  volume größe",
        ),
        (
            "config rm --local".to_owned(),
            "Its datastores are closed to all VMs until there is another. [y/N] ",
        ),
    ] {
        let no = at_terminal(&world, &line, "n\n");
        assert_eq!((no.code, no.out.as_str()), (1, ""), "{line}: {}", no.err);
        assert!(no.err.contains(question), "{line}: {}", no.err);
        assert!(
            no.err.ends_with("nothing was changed\n"),
            "{line}: {}",
            no.err
        );
        assert!(world.asked().is_empty(), "{line}");
        let yes = at_terminal(&world, &line, "y\n");
        assert_eq!(yes.code, 0, "{line}: {}", yes.err);
        assert_eq!(world.asked().len(), 1, "{line}");
        world.forget();
    }
    // What would be done is found out first, by a dry run; only a yes does it.
    for line in [
        format!("config restore {backup}"),
        format!("config import {database}"),
    ] {
        let no = at_terminal(&world, &line, "\n");
        assert_eq!(no.code, 1, "{}", no.err);
        assert!(no.err.contains("this is what would be done"), "{}", no.err);
        let yes = at_terminal(&world, &line, "yes\n");
        assert_eq!(yes.code, 0, "{}", yes.err);
        let dry = |asked: &String| asked.contains("dry_run: true");
        let runs: Vec<_> = world.asked().iter().map(dry).collect();
        assert_eq!(runs, [true, true, false], "{line}");
        world.forget();
    }
}

#[test]
fn what_was_shown_is_what_is_removed_whatever_takes_its_name_meanwhile() {
    let world = World::start();
    let ran = at_terminal(&world, "volume rm reports", "y\n");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        world.asked(),
        ["RemoveVolumeRequest { address: \"0192aaaa-bbbb-7ccc-8ddd-eeee12345602\" }"]
    );
}
