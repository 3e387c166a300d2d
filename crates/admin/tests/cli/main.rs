//! The program as an administrator runs it, against an agent that answers from a table.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

mod changes;
mod fake;
mod findings;
mod forms;
mod long;
mod questions;
mod rig;
mod screens;
mod table;

use std::os::unix::net::UnixListener as StdListener;

use serde_json::Value;

use rig::{World, no_agent, vdvs};

#[test]
fn every_list_prints_a_table_and_the_same_as_json() {
    let world = World::start();
    for (verb, shown, key) in [
        ("volume ls", "wiki_uploads !", "/volumes/0/name"),
        (
            "volume inspect postgres_vol",
            "postgres_vol@vsanDatastore",
            "/record/format",
        ),
        ("vm ls", "swarm01", "/0/name"),
        ("datastore ls", "vsanDatastore", "/0/capacity_bytes"),
    ] {
        let table = world.vdvs(verb);
        assert_eq!((table.code, table.err.as_str()), (0, ""), "{verb}");
        assert!(table.out.contains(shown), "{verb}: {}", table.out);
        assert!(
            !table.out.contains('\u{1b}'),
            "{verb}: no colours in a pipe"
        );
        let json = world.vdvs(&format!("{verb} --output json"));
        assert_eq!((json.code, json.err.as_str()), (0, ""), "{verb}");
        let value: Value = serde_json::from_str(&json.out).unwrap();
        assert!(value.pointer(key).is_some(), "{verb}: {}", json.out);
    }
}

#[test]
fn what_needs_attention_is_marked_with_its_reason() {
    let world = World::start();
    let ran = world.vdvs("volume ls");
    assert!(
        ran.out
            .contains("! wiki_uploads@vsanDatastore: detach unfinished since 41 s")
    );
    assert!(
        ran.out
            .contains("vdvs volume adopt 0192aaaa-bbbb-7ccc-8ddd-eeee12345605 --to-group")
    );
    assert!(ran.out.contains("! datastore nfs cannot be read now"));
}

#[test]
fn an_agents_refusal_keeps_its_text_and_its_exit_code() {
    let world = World::start();
    let ran = world.vdvs("volume inspect none");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(
        ran.err.starts_with("vdvs: Volume none not found"),
        "{}",
        ran.err
    );
    let ran = world.vdvs("volume inspect none -o json");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error.pointer("/error/reason").unwrap(), "NOT_FOUND");
    assert_eq!(error.pointer("/error/exit_code").unwrap(), 3);
}

#[test]
fn nothing_is_removed_without_yes_when_nobody_can_be_asked() {
    let world = World::start();
    let ran = world.vdvs("volume rm postgres_vol");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--yes"), "{}", ran.err);
    assert!(world.asked().is_empty());
}

#[test]
fn with_yes_the_volume_is_removed_under_a_fresh_request_id_each_time() {
    let world = World::start();
    for _ in 0..2 {
        let ran = world.vdvs("volume rm --yes postgres_vol");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(ran.out, "removed postgres_vol@vsanDatastore\n");
    }
    let asked = world.agent.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|a| a.what.contains("\"postgres_vol\"")));
    let ids: Vec<_> = asked.iter().map(|a| &a.id).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids.first(), ids.last());
    assert_eq!(world.vdvs("volume rm --yes none").code, 3);
}

#[test]
fn a_remove_without_an_answer_says_that_the_outcome_is_not_known() {
    let world = World::start();
    let ran = world.vdvs("volume rm --yes lost");
    assert_eq!(ran.code, 7);
    assert!(
        ran.err.contains("is not known: see vdvs volume ls"),
        "{}",
        ran.err
    );
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_exit_code_7() {
    let world = World::start();
    let ran = world.vdvs("volume inspect slow --timeout 1");
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("did not answer in time"), "{}", ran.err);
}

#[test]
fn without_an_agent_the_error_says_what_to_do() {
    let (_dir, socket) = no_agent();
    let ran = vdvs(&socket, "status");
    assert_eq!((ran.code, ran.out.as_str()), (7, ""));
    assert!(ran.err.contains("the agent does not run"), "{}", ran.err);
    assert!(ran.err.contains("Start vdvsd"), "{}", ran.err);
    let json = vdvs(&socket, "volume ls --output json");
    let error: Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error.pointer("/error/reason").unwrap(), "UNAVAILABLE");
}

#[test]
fn a_socket_that_an_agent_left_behind_is_told_apart() {
    let (_dir, socket) = no_agent();
    drop(StdListener::bind(&socket).unwrap());
    let ran = vdvs(&socket, "status");
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("nobody listens on"), "{}", ran.err);
}

#[test]
fn help_and_version_need_no_agent_and_mistakes_are_exit_code_2() {
    let (_dir, socket) = no_agent();
    for line in ["--help", "volume --help", "volume rm --help", "--version"] {
        let ran = vdvs(&socket, line);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        assert!(ran.out.contains("vdvs"), "{line}");
    }
    for line in ["volume", "volume rm", "volumes ls", "status --output yaml"] {
        assert_eq!(vdvs(&socket, line).code, 2, "{line}");
    }
}
