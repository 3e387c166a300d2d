//! Long work: waited for, failed, lost from sight, interrupted.

use std::io::Read;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::rig::{World, command};

#[test]
fn a_change_that_takes_long_is_waited_for_and_shows_its_results() {
    let world = World::start();
    let ran = world.vdvs("vmgroup vm add long vm1 --move-volumes");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(
        ran.out,
        "moved postgres_vol\nvmgroup vm add succeeded\n! look\n"
    );
    let json = world.vdvs("vmgroup vm add long vm1 -o json").out;
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["work"]["state"], "done");
    assert_eq!(value.pointer("/lines/0").unwrap(), "moved postgres_vol");
}

#[test]
fn a_failed_work_fails_the_command_with_its_reason_and_what_was_done() {
    let world = World::start();
    let ran = world.vdvs("vmgroup vm add failing vm1");
    assert_eq!((ran.code, ran.out.as_str()), (6, ""));
    assert_eq!(
        ran.err,
        "vdvs: reports is being detached\nmoved postgres_vol\nwarning: look\n"
    );
    // Whoever looks later sees the same.
    let later = world.vdvs("work show w-failing");
    assert_eq!(later.code, 6);
}

#[test]
fn a_work_that_an_agent_forgot_is_said_to_be_begun_again_safely() {
    let world = World::start();
    let ran = world.vdvs("vmgroup vm add vanishing vm1");
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("say the command again"), "{}", ran.err);
}

#[test]
fn whoever_interrupts_the_wait_is_told_how_to_go_on() {
    let world = World::start();
    let mut child = command(&world.socket(), "work show w-endless")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    // It can be interrupted as soon as it asks for the work: until then the signal would kill it.
    world.wait_for_questions(2);
    kill_process(pid, Signal::INT).unwrap();
    let code = child.wait().unwrap().code();
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(code, Some(7), "{err}");
    assert!(err.contains("interrupted:"), "{err}");
    assert!(err.contains("vdvs work show w-endless"), "{err}");
}
