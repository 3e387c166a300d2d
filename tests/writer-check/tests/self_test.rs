//! The watcher finds what is put before it by hand, and nothing in a clean run.

use std::process::Command;

use nix::unistd::geteuid;

#[test]
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn what_is_attached_wrongly_by_hand_is_found() {
    if !geteuid().is_root() {
        eprintln!("skipped: loop devices and mounts need root");
        return;
    }
    let done = Command::new(env!("CARGO_BIN_EXE_writer-check"))
        .arg("self-test")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    eprint!("{said}");
    assert!(done.status.success(), "{said}");
}

/// Its word counts because it shares nothing with what it judges.
#[test]
fn no_line_of_the_house_is_compiled_into_it() {
    let manifest = include_str!("../Cargo.toml");
    assert!(!manifest.contains("vdvs-"), "{manifest}");
    let names: Vec<&str> = manifest
        .lines()
        .filter(|line| line.contains("path ="))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}
