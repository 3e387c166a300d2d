//! `config`

use super::{Act, Answer, Node, Opt, flag, needed, text, verb};

const FORCE: Opt = flag("force", "Go on in spite of warnings");

/// The commands.
pub(super) const COMMANDS: &[Node] = &[
    verb(
        "init",
        Act::ConfigInit,
        Answer::Message,
        "Create the configuration, or join the one that is there",
        &[
            text(
                "datastore",
                "Keep it on this datastore; all hosts that see it share it",
            ),
            flag("local", "Keep it for this host only"),
            FORCE,
        ],
    ),
    verb(
        "rm",
        Act::ConfigRm,
        Answer::Message,
        "Remove the configuration",
        &[
            flag("local", "The one of this host only"),
            flag("unlink", "The shared one"),
            flag("no-backup", "Keep no copy"),
            flag("confirm", "Needed, for safety"),
        ],
    ),
    verb(
        "mv",
        Act::ConfigMv,
        Answer::Message,
        "Move the configuration to another datastore",
        &[needed("to", "The datastore it moves to"), FORCE],
    ),
    verb(
        "status",
        Act::ConfigStatus,
        Answer::Message,
        "Show where the configuration lies",
        &[],
    ),
];
