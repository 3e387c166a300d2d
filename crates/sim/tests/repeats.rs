//! The same seed leaves the same trace, and another seed another one.

use std::env;

use vdvs_sim::schedule::{Plan, run, run_told};

/// So many seeds are repeated: few in a debug build, as many as `VDVS_REPEATS` says.
fn seeds() -> u64 {
    env::var("VDVS_REPEATS").map_or(8, |n| n.parse().expect("VDVS_REPEATS is a number"))
}

#[test]
fn a_seed_repeats_to_the_byte() {
    for seed in 1..=seeds() {
        let plan = Plan::of(seed);
        let (first, second) = (run(&plan), run(&plan));
        if first.hash != second.hash {
            let (one, other) = (run_told(&plan).story, run_told(&plan).story);
            let at = one.iter().zip(&other).position(|(a, b)| a != b);
            let at = at.unwrap_or(one.len().min(other.len()));
            let from = at.saturating_sub(5);
            panic!(
                "seed {seed}: {:016x} and {:016x}; the stories part at line {at}:\n{:#?}\n{:#?}",
                first.hash,
                second.hash,
                &one[from..one.len().min(at + 3)],
                &other[from..other.len().min(at + 3)],
            );
        }
        assert!(first.events > 100, "seed {seed}: hardly anything happened");
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(run(&Plan::of(1)).hash, run(&Plan::of(2)).hash);
}

#[test]
fn telling_the_story_does_not_change_it() {
    let plan = Plan::of(3);
    let told = run_told(&plan);
    assert_eq!(run(&plan).hash, told.hash);
    assert!(!told.story.is_empty());
}
