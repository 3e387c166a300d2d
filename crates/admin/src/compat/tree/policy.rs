//! `policy`

use super::{Act, Answer, Node, Opt, needed, verb};

const POLICY_HEADER: &[&str] = &["Policy Name", "Policy Content", "Active"];
const POLICY: Opt = needed("name", "Name of the policy");
const CONTENT: Opt = needed(
    "content",
    "The policy, e.g. ((\"hostFailuresToTolerate\" i1))",
);

/// The commands.
pub(super) const COMMANDS: &[Node] = &[
    verb(
        "create",
        Act::PolicyCreate,
        Answer::Message,
        "Create a policy",
        &[POLICY, CONTENT],
    ),
    verb(
        "rm",
        Act::PolicyRm,
        Answer::Message,
        "Remove a policy that no volume uses",
        &[POLICY],
    ),
    verb(
        "ls",
        Act::PolicyLs,
        Answer::Table(POLICY_HEADER),
        "List policies and how many volumes use them",
        &[],
    ),
    verb(
        "update",
        Act::PolicyUpdate,
        Answer::Message,
        "Change a policy, and all volumes that use it",
        &[POLICY, CONTENT],
    ),
];
