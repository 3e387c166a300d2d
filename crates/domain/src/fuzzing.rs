//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.

use std::collections::BTreeMap;

use crate::capacity::{MAX_BYTES, MIN_BYTES, SECTOR};
use crate::names::{MAX_NAME_BYTES, MAX_NAME_CHARS};
use crate::options::{GivenOptions, MAX_OPTIONS};
use crate::policy::{MAX_ENTRIES, MAX_TEXT, PolicyExpression};
use crate::{Capacity, DatastoreName, FsType, GroupName, VolumeAddress, VolumeName};

/// Longest text of a refusal: it goes into a reply and a log line.
const MAX_REFUSAL: usize = 64 * 1024;

/// Addresses and names: what parses prints back, and what is a name can be a file name.
pub fn addresses(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match VolumeAddress::parse(text) {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(VolumeAddress::parse(&printed), Ok(address), "{printed:?}");
        }
        Err(why) => assert!(why.to_string().len() < MAX_REFUSAL),
    }
    if let Ok(name) = VolumeName::new(text) {
        assert_file_name(name.as_str());
        assert_eq!(VolumeName::try_from(String::from(name.clone())), Ok(name));
    }
    if let Ok(name) = DatastoreName::new(text) {
        assert_file_name(name.as_str());
        assert!(name.matches(&name));
    }
    if let Ok(name) = GroupName::new(text) {
        assert_file_name(name.as_str());
    }
    if let Ok(name) = FsType::new(text) {
        assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}

fn assert_file_name(name: &str) {
    assert!(!name.is_empty() && name != "." && name != "..");
    assert!(name.len() <= MAX_NAME_BYTES && name.chars().count() <= MAX_NAME_CHARS);
    assert!(!name.contains(['/', '\\']) && !name.contains(char::is_control));
}

/// Sizes: within the limits, whole sectors, and as large as the digits and the unit say.
pub fn capacities(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Ok(capacity) = Capacity::parse(text) else {
        return;
    };
    assert!((MIN_BYTES..=MAX_BYTES).contains(&capacity.bytes()));
    assert_eq!(capacity.sectors() * SECTOR, capacity.bytes());
    assert_eq!(Capacity::from_bytes(capacity.bytes()), Ok(capacity));
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let factor: u128 = match unit.chars().next() {
        Some('m' | 'M') => 1 << 20,
        Some('g' | 'G') => 1 << 30,
        _ => 1 << 40,
    };
    let number: u128 = digits.parse().expect("what was a size begins with digits");
    assert_eq!(u128::from(capacity.bytes()), number * factor);
    assert!(!capacity.to_string().is_empty());
}

/// Policies: refused with the place of the mistake, or written one way that reads back the same, out of characters that
/// end no argument of anybody who passes it on.
pub fn policies(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match PolicyExpression::parse(text) {
        Ok(policy) => {
            let written = policy.to_string();
            assert_eq!(PolicyExpression::parse(&written), Ok(policy.clone()));
            assert!(policy.same_as(&policy) && policy.keys().count() <= MAX_ENTRIES);
            let quiet = |c: char| c.is_ascii_graphic() || c == ' ';
            assert!(written.chars().all(quiet) && !written.contains(['\'', '\\', '$', '`', ';']));
            // Without force, more hosts are never worse.
            let refused = |hosts| policy.unsatisfiable_with(hosts).is_some();
            assert!(refused(3) || !refused(7));
        }
        Err(why) => {
            assert!((1..=text.chars().count().max(MAX_TEXT) + 1).contains(&why.at));
            assert!(why.to_string().len() < MAX_REFUSAL);
        }
    }
}

/// Options of *create*, one `key=value` a line: unknown keys and too many are refused, a repeated create differs in
/// nothing, and what was given has one spelling.
pub fn options(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let map: BTreeMap<String, String> = text
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match GivenOptions::parse(&map) {
        Ok(given) => {
            assert!(map.len() <= MAX_OPTIONS);
            assert!(
                given
                    .differences(given.capacity(), &given.resolve())
                    .is_empty()
            );
            let keys: Vec<String> = given
                .canonical()
                .split(' ')
                .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
                .collect();
            // Two of them have a second name.
            let named = |key: &String| map.keys().any(|k| k.eq_ignore_ascii_case(key));
            let capacity = map.keys().any(|k| k.eq_ignore_ascii_case("capacity"));
            assert!(keys.len() <= map.len(), "{map:?}");
            assert!(
                keys.iter()
                    .all(|key| named(key) || (key == "size" && capacity))
            );
            assert_eq!(GivenOptions::parse(&map), Ok(given));
        }
        Err(why) => assert!(why.to_string().len() < MAX_REFUSAL),
    }
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_address_is_refused_or_prints_back() {
        check("addresses", super::addresses);
    }

    #[test]
    fn any_size_is_refused_or_means_what_it_says() {
        check("capacities", super::capacities);
    }

    #[test]
    fn any_policy_is_refused_where_it_is_wrong_or_has_one_spelling() {
        check("policies", super::policies);
    }

    #[test]
    fn any_options_are_refused_or_have_one_meaning() {
        check("options", super::options);
    }
}
