//! The nearest valid word: *Did you mean 'size'?*
//!
//! A suggestion is always one of the words that would have been accepted, and is made only when it is near: at most
//! a third of the letters differ, or the word is what other systems call the same thing. Letter case does not count,
//! so that `Size` finds `size`.

use std::cmp::min;
use std::mem::replace;

/// Longer texts are not compared: nobody mistypes into them, and the work grows with their square.
const MAX_CHARS: usize = 64;

/// Words of other systems, and ours for them. Used only where ours is among the words that would be accepted.
const ELSEWHERE: [(&str, &str); 26] = [
    ("allocation", "diskformat"),
    ("capacitymb", "Capacity"),
    ("clone", "clone-from"),
    ("datastore", "VolumeStore"),
    ("disk-format", "diskformat"),
    ("filesystem", "fstype"),
    ("format", "diskformat"),
    ("fs", "fstype"),
    ("from", "clone-from"),
    ("independent", "independent_persistent"),
    ("mountopts", "mount-options"),
    ("o", "mount-options"),
    ("opts", "mount-options"),
    ("permissions", "mode"),
    ("policy", "vsan-policy-name"),
    ("r", "read-only"),
    ("readonly", "read-only"),
    ("ro", "read-only"),
    ("rw", "read-write"),
    ("source", "clone-from"),
    ("storagepolicyname", "vsan-policy-name"),
    ("thick", "zeroedthick"),
    ("type", "fstype"),
    ("user", "uid"),
    ("vol-size", "size"),
    ("volumesize", "size"),
];

/// The word of `known` that `asked` most likely meant; none when no word is near.
#[must_use]
pub fn nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let asked = letters(asked)?;
    let text: String = asked.iter().collect();
    let elsewhere = ELSEWHERE.iter().find(|(word, _)| *word == text);
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        if elsewhere.is_some_and(|(_, ours)| *ours == word) {
            return Some(word);
        }
        let Some(candidate) = letters(word) else {
            continue;
        };
        let apart = distance(&asked, &candidate);
        let allowed = (asked.len().max(candidate.len()) / 3).max(1);
        // One letter for another is another word, not a slip.
        let near = apart <= allowed && apart < min(asked.len(), candidate.len());
        if near && best.is_none_or(|(least, _)| apart < least) {
            best = Some((apart, word));
        }
    }
    best.map(|(_, word)| word)
}

/// ` Did you mean '…'?`, to be put behind a refusal; empty when no word is near.
#[must_use]
pub fn did_you_mean<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(asked, known).map_or_else(String::new, |word| format!(" Did you mean '{word}'?"))
}

/// The text's letters without their case; none when there are none or too many.
fn letters(text: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = text
        .trim()
        .chars()
        .take(MAX_CHARS + 1)
        .flat_map(char::to_lowercase)
        .collect();
    (1..=MAX_CHARS).contains(&letters.len()).then_some(letters)
}

/// How many letters must be changed, added, left out or swapped with their neighbour to make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<usize>>());
    let mut left_in_a = None;
    for (row, from) in a.iter().enumerate() {
        let mut this = vec![row + 1];
        let mut left_in_b = None;
        let mut swapped = None;
        for (column, ((to, diagonal), above)) in
            b.iter().zip(&last).zip(last.iter().skip(1)).enumerate()
        {
            let beside = this.last().copied().unwrap_or(row + 1);
            let mut least = min(
                min(above + 1, beside + 1),
                diagonal + usize::from(from != to),
            );
            if left_in_a == Some(to)
                && left_in_b == Some(from)
                && let Some(swap) = swapped
            {
                least = min(least, swap);
            }
            // The cell two rows up and two columns back of the next one.
            swapped = before.get(column).map(|cell: &usize| cell + 1);
            left_in_b = Some(to);
            this.push(least);
        }
        left_in_a = Some(from);
        before = replace(&mut last, this);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDS: [&str; 6] = [
        "size",
        "fstype",
        "access",
        "mount-options",
        "Capacity",
        "mode",
    ];

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        for (asked, meant) in [
            ("sise", "size"),
            ("Size", "size"),
            ("szie", "size"),
            ("fstyp", "fstype"),
            ("acces", "access"),
            ("mountoptions", "mount-options"),
            ("capacity", "Capacity"),
            ("filesystem", "fstype"),
        ] {
            assert_eq!(nearest(asked, WORDS), Some(meant), "{asked}");
        }
        for asked in ["", "x", "foo", "replicas", &"s".repeat(65)] {
            assert_eq!(nearest(asked, WORDS), None, "{asked}");
        }
    }

    #[test]
    fn a_swap_of_neighbours_is_one_slip() {
        let apart = |a: &str, b: &str| distance(&letters(a).unwrap(), &letters(b).unwrap());
        assert_eq!(apart("szie", "size"), 1);
        assert_eq!(apart("kitten", "sitting"), 3);
    }

    proptest! {
        #[test]
        fn a_suggestion_is_always_a_valid_word(asked in ".{0,80}") {
            if let Some(word) = nearest(&asked, WORDS) {
                prop_assert!(WORDS.contains(&word));
            }
        }

        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(a in "[a-d]{1,8}", b in "[a-d]{1,8}") {
            let (x, y) = (letters(&a).unwrap(), letters(&b).unwrap());
            prop_assert_eq!(distance(&x, &y), distance(&y, &x));
            prop_assert_eq!(distance(&x, &y) == 0, a == b);
        }
    }
}
