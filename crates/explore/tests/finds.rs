//! The search can fail: what is planted is found, and the schedule it gives leads there.
//!
//! The search of all cases is a program of its own (`cargo xtask sim --exhaustive`): it takes longer than a test may.
#![expect(
    clippy::print_stdout,
    reason = "which case found what, and after how many states, is to be read"
)]

use std::time::Duration;

use vdvs_explore::cases::{Case, Finished, MOST, cases, large, mistakes};
use vdvs_explore::search::{Broken, Limit};

/// Each mistake is found within seconds; a machine may be busy.
const LIMIT: Limit = Limit {
    states: MOST,
    time: Duration::from_secs(120),
};

fn found(name: &str) -> Broken {
    let all = mistakes();
    let case = all.iter().find(|c| c.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
    let broken = case.run(LIMIT).expect_err("the mistake is found");
    println!(
        "{name}: found after {} states: {}",
        broken.states, broken.why
    );
    broken
}

#[test]
fn without_either_second_look_of_swap_an_acknowledged_change_is_lost() {
    for name in [
        "swap without its second look",
        "swap without its third look",
    ] {
        let broken = found(name);
        assert!(broken.why.contains("are lost"), "{broken}");
        assert_eq!(broken.schedule.len(), broken.path.len());
    }
}

#[test]
fn pruning_without_looking_below_is_read_wrongly() {
    let broken = found("pruning without looking below");
    assert!(broken.why.contains("were not read"), "{broken}");
}

#[test]
fn without_the_comparison_of_epochs_a_late_detach_takes_what_was_just_given() {
    let broken = found("no comparison of epochs");
    assert!(broken.why.starts_with("P2"), "{broken}");
    let late = broken.schedule.iter().any(|step| step.contains("Late"));
    assert!(late, "{broken}");
}

#[test]
fn a_lock_that_reads_free_though_it_is_held_lets_a_live_owner_be_robbed() {
    let broken = found("a lock that always reads free");
    assert!(broken.why.starts_with("P2"), "{broken}");
}

/// One of the cases of every CI, to its end.
fn whole(name: &str, change: impl Fn(Case) -> Case) -> Finished {
    let case = cases().into_iter().find(|c| c.name == name);
    let case = change(case.unwrap_or_else(|| panic!("there is no case {name}")));
    let finished = case.run(LIMIT).unwrap_or_else(|why| panic!("{why}"));
    assert!(!finished.explored.cut, "{name} is not small any more");
    finished
}

#[test]
fn a_vm_that_is_resumed_while_it_is_being_proven_dead_keeps_its_volume() {
    whole("the owner is suspended and resumed", |case| case);
}

#[test]
fn telling_an_agents_tasks_apart_loses_no_end() {
    for name in [
        "a late detach meets a new attach",
        "the owner's host dies, its VM is started elsewhere",
    ] {
        let (merged, exact) = (whole(name, |case| case), whole(name, Case::exactly));
        assert_eq!(merged.ends, exact.ends, "{name}");
        assert_eq!(merged.edges, exact.edges, "{name}");
        assert!(merged.explored.states <= exact.explored.states, "{name}");
    }
}

#[test]
fn a_case_that_is_searched_has_a_way_through_and_a_name_of_its_own() {
    let all: Vec<Case> = cases().into_iter().chain(large()).collect();
    for case in &all {
        assert!(!case.straight().is_empty(), "{}", case.name);
        let same = |other: &&Case| other.name == case.name;
        assert_eq!(all.iter().filter(same).count(), 1, "{}", case.name);
    }
}
