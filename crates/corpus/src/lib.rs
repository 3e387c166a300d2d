//! The stable twin of a fuzz target.
//!
//! Every parser of outside bytes has one function `fn(&[u8])` in its crate's module `fuzzing`; it panics when a promise
//! about that parser does not hold. The fuzzer feeds it for as long as somebody waits (`cargo xtask fuzz`,
//! `docs/fuzzing.md`). [`check`] feeds it in every test run, without a fuzzer:
//!
//! 1. the committed inputs of `fuzz/corpus/<target>`: good ones, and one for each mistake ever found;
//! 2. random edits of those, which get past the first line of a format where random bytes do not;
//! 3. random bytes.
//!
//! Only for tests: it panics on failure, and reads the clone's files.
#![forbid(unsafe_code)]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestError, TestRunner};

/// Inputs made up per run. The fuzzer is for the long search; this keeps a change from breaking what is simple.
const CASES: u32 = 512;

/// Longest input made up, in bytes.
const LONGEST: usize = 600;

/// Replays the committed inputs of `target`, then runs `promise` on variations of them and on random bytes.
///
/// # Panics
/// When the promise does not hold, naming the file or showing the smallest input found; and when the target has no
/// committed inputs, since a suite that vanished must not look like one that passed.
pub fn check(target: &str, promise: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "fuzz/corpus/{target} has no inputs");
    for (path, bytes) in &seeds {
        if catch_unwind(|| promise(bytes)).is_err() {
            panic!("{target} fails on {}", path.display());
        }
    }
    let inputs = inputs(seeds.into_iter().map(|(_, bytes)| bytes).collect());
    let config = Config {
        cases: CASES,
        // A failing input goes to the corpus, where the fuzzer sees it too.
        failure_persistence: None,
        // Each step prints a panic.
        max_shrink_iters: 200,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&inputs, |bytes| {
        promise(&bytes);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => {
            panic!("{target} fails on b\"{}\": {why}", bytes.escape_ascii());
        }
        Err(why) => panic!("{target}: {why}"),
    }
}

/// The committed inputs of a target, by name.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .map(|entry| {
            let path = entry.expect("the clone's folders can be listed").path();
            let bytes = fs::read(&path).expect("the clone's files can be read");
            (path, bytes)
        })
        .collect();
    found.sort();
    found
}

/// One change of an input. Places beyond its end wrap around, so every edit does something to every input.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
}

fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edited =
        (select(seeds), vec(edits(), 1..5)).prop_map(|(seed, edits)| edits.iter().fold(seed, edit));
    prop_oneof![4 => edited, 1 => vec(any::<u8>(), 0..LONGEST)]
}

fn edits() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    // What formats are made of is more often where they break than any byte is.
    let telling = select(&b" \0\n\r\t\"'@=+-.:/\\{}[],#0159afXx\x7f\x80\xff"[..]);
    let byte = prop_oneof![telling, any::<u8>()].boxed();
    let set = byte.clone();
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), set).prop_map(|(at, byte)| Edit::Set(at, byte)),
        at().prop_map(Edit::Cut),
        (at(), 1..20_usize).prop_map(|(at, n)| Edit::Remove(at, n)),
        (at(), prop_oneof![1..20_usize, Just(300)]).prop_map(|(at, n)| Edit::Repeat(at, n)),
        (at(), vec(byte, 1..8)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
    ]
}

fn edit(mut bytes: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let place = |at: &Index| at.index(bytes.len().saturating_add(1));
    match edit {
        Edit::Flip(at, bit) => {
            let place = place(at);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << bit;
            }
        }
        Edit::Set(at, new) => {
            let place = place(at);
            if let Some(byte) = bytes.get_mut(place) {
                *byte = *new;
            }
        }
        Edit::Cut(at) => bytes.truncate(place(at)),
        Edit::Remove(at, n) => {
            let (start, end) = span(place(at), *n, bytes.len());
            bytes.drain(start..end);
        }
        Edit::Repeat(at, n) => {
            let (start, end) = span(place(at), *n, bytes.len());
            let again = bytes.get(start..end).unwrap_or_default().to_vec();
            bytes.splice(start..start, again);
        }
        Edit::Insert(at, new) => {
            let place = place(at);
            bytes.splice(place..place, new.iter().copied());
        }
    }
    bytes
}

fn span(start: usize, length: usize, limit: usize) -> (usize, usize) {
    (start, start.saturating_add(length).min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_holds_passes() {
        check("addresses", |bytes| assert!(bytes.len() < 1 << 20));
    }

    #[test]
    #[should_panic(expected = "addresses fails on b\"")]
    fn a_promise_that_a_variation_breaks_fails() {
        check("addresses", |bytes| assert!(!bytes.contains(&0xff)));
    }

    #[test]
    #[should_panic(expected = "fuzz/corpus/addresses/")]
    fn a_promise_that_a_committed_input_breaks_fails_and_names_the_file() {
        check("addresses", |bytes| assert!(bytes.is_empty()));
    }

    #[test]
    #[should_panic(expected = "fuzz/corpus/nothing has no inputs")]
    fn a_target_without_inputs_is_a_failure() {
        check("nothing", |_| {});
    }
}
