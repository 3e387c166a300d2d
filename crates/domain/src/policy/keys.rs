//! The keys of vSAN policies that are known, and what they ask of a datastore.

use std::ops::RangeInclusive;

use super::parse::{PolicyExpression, Value};
use crate::names::PolicyName;
use crate::suggest;

/// What a key's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Number(RangeInclusive<i64>),
    /// A number, or the range from one to another.
    Range(RangeInclusive<i64>),
    /// One of these texts.
    Word(&'static [&'static str]),
}

const FAILURES: &str = "hostFailuresToTolerate";
const FORCE: &str = "forceProvisioning";
const PREFERENCE: &str = "replicaPreference";
const CAPACITY: &str = "Capacity";

/// The keys that are known, with what their values may be.
pub const KNOWN: [(&str, Type); 8] = [
    (FAILURES, Type::Number(0..=3)),
    ("stripeWidth", Type::Number(1..=12)),
    (FORCE, Type::Number(0..=1)),
    ("proportionalCapacity", Type::Range(0..=100)),
    // In millionths of the disk's size.
    ("cacheReservation", Type::Number(0..=1_000_000)),
    ("checksumDisabled", Type::Number(0..=1)),
    (PREFERENCE, Type::Word(&["Performance", CAPACITY])),
    ("iopsLimit", Type::Number(0..=2_147_483_647)),
];

fn known(key: &str) -> Option<&'static Type> {
    let found = KNOWN.iter().find(|(k, _)| *k == key);
    found.map(|(_, kind)| kind)
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(i64::from(*n)),
        Value::Long(n) => Some(*n),
        Value::Text(_) | Value::List(_) => None,
    }
}

/// Whether a key may have this value. A key that is not known may have any.
pub(super) fn check(key: &str, value: &Value) -> Result<(), String> {
    let Some(kind) = known(key) else {
        return Ok(());
    };
    let within = |range: &RangeInclusive<i64>, value: &Value| match number(value) {
        Some(n) if range.contains(&n) => Ok(()),
        _ => Err(format!(
            "{value} is no value of {key}: expected i{} to i{}",
            range.start(),
            range.end()
        )),
    };
    match (kind, value) {
        (Type::Number(range), value) => within(range, value),
        (Type::Range(range), Value::List(values)) if values.len() == 2 => {
            values.iter().try_for_each(|value| within(range, value))?;
            let numbers: Vec<_> = values.iter().filter_map(number).collect();
            match numbers.is_sorted() {
                true => Ok(()),
                false => Err(format!("{value} is no range: it ends below its beginning")),
            }
        }
        (Type::Range(range), value) => within(range, value),
        (Type::Word(words), Value::Text(text)) if words.contains(&text.as_str()) => Ok(()),
        (Type::Word(words), value) => Err(format!(
            "{value} is no value of {key}: expected \"{}\"",
            words.join("\" or \"")
        )),
    }
}

impl PolicyExpression {
    /// A sentence for each key that is not known. Such a key is kept: a datastore may know more than this program.
    #[must_use]
    pub fn warnings(&self, name: &PolicyName) -> Vec<String> {
        let names = || KNOWN.iter().map(|(k, _)| *k);
        let unknown = self.keys().filter(|key| known(key).is_none());
        let warning = |key: &str| {
            let near = suggest::did_you_mean(key, names());
            format!(
                "policy {name}: key \"{key}\" is not known here and is passed on as it is.{near}"
            )
        };
        unknown.map(warning).collect()
    }

    fn asks(&self, key: &str) -> i64 {
        self.get(key).and_then(number).unwrap_or_default()
    }

    /// Why a vSAN datastore to which so many hosts contribute storage refuses a disk with this policy; `None`: it can
    /// have it, or is told to go without what it lacks.
    #[must_use]
    pub fn unsatisfiable_with(&self, hosts: u32) -> Option<String> {
        let failures = match self.get(FAILURES) {
            Some(value) => number(value).unwrap_or_default(),
            // What vSAN does when a policy is silent on it.
            None => 1,
        };
        let erasure = self.get(PREFERENCE) == Some(&Value::Text(CAPACITY.to_owned()));
        let needs = match (erasure, failures) {
            (true, 1) => 4,
            (true, 2) => 6,
            (_, n) => n.saturating_mul(2).saturating_add(1),
        };
        if needs <= i64::from(hosts) || self.asks(FORCE) == 1 {
            return None;
        }
        Some(format!(
            "Not enough fault domains to satisfy the policy: {FAILURES} i{failures} needs {needs} hosts with storage, there are {hosts}"
        ))
    }
}
