//! Creating, updating and removing a policy, as pure changes of the configuration.

use super::fault::PolicyFault;
use super::parse::PolicyExpression;
use crate::access::{AccessConfig, StoragePolicy};
use crate::names::PolicyName;

/// Most policies of a configuration: its document stays small.
pub const MAX_POLICIES: usize = 100;
/// Longest name of a new policy.
const MAX_NAME: usize = 64;

/// What a create did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The policy.
    pub policy: StoragePolicy,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

/// What an update did to the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The policy as it is now.
    pub policy: StoragePolicy,
    /// Its content is another one now. Otherwise only volumes that did not get it yet are left to do.
    pub changed: bool,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

/// The policy of that name.
#[must_use]
pub fn find<'a>(config: &'a AccessConfig, name: &PolicyName) -> Option<&'a StoragePolicy> {
    config.policies.iter().find(|p| p.name == *name)
}

/// Whether a new policy may have that name: one that no terminal, path or shell misreads.
fn check_name(name: &PolicyName) -> Result<(), PolicyFault> {
    let text = name.as_str();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next().is_some_and(word);
    let all = text.bytes().all(|b| word(b) || b" .-".contains(&b));
    match first && all && text.len() <= MAX_NAME && !text.ends_with(' ') {
        true => Ok(()),
        false => Err(PolicyFault::Name(
            text.escape_debug().take(MAX_NAME).collect(),
        )),
    }
}

/// Adds a policy.
///
/// # Errors
/// [`PolicyFault`]
pub fn create(
    config: &mut AccessConfig,
    name: &PolicyName,
    content: &str,
) -> Result<Created, PolicyFault> {
    check_name(name)?;
    if find(config, name).is_some() {
        return Err(PolicyFault::Exists(name.clone()));
    }
    if config.policies.len() >= MAX_POLICIES {
        return Err(PolicyFault::TooMany);
    }
    let expression = PolicyExpression::parse(content)?;
    let policy = StoragePolicy {
        name: name.clone(),
        content: expression.to_string(),
        version: 1,
    };
    config.policies.push(policy.clone());
    config.policies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Created {
        policy,
        warnings: expression.warnings(name),
    })
}

/// Gives a policy another content, and the next version with it. Of the same content nothing changes.
///
/// # Errors
/// [`PolicyFault`]
pub fn update(
    config: &mut AccessConfig,
    name: &PolicyName,
    content: &str,
) -> Result<Updated, PolicyFault> {
    let found = config.policies.iter_mut().find(|p| p.name == *name);
    let policy = found.ok_or_else(|| PolicyFault::NotThere(name.clone()))?;
    let expression = PolicyExpression::parse(content)?;
    let old = PolicyExpression::parse(&policy.content);
    let changed = !old.is_ok_and(|old| old.same_as(&expression));
    if changed {
        policy.content = expression.to_string();
        policy.version = policy.version.saturating_add(1);
    }
    Ok(Updated {
        policy: policy.clone(),
        changed,
        warnings: expression.warnings(name),
    })
}

/// Takes a policy out. The caller has seen that no volume names it.
///
/// # Errors
/// [`PolicyFault::NotThereToRemove`]
pub fn remove(config: &mut AccessConfig, name: &PolicyName) -> Result<StoragePolicy, PolicyFault> {
    let at = config.policies.iter().position(|p| p.name == *name);
    let at = at.ok_or_else(|| PolicyFault::NotThereToRemove(name.clone()))?;
    Ok(config.policies.remove(at))
}
