//! `volume`

use super::{Act, Answer, Node, Opt, Takes, needed, text, verb};

pub(super) const VOLUME_HEADER: &[&str] = &[
    "Volume",
    "Datastore",
    "VMGroup",
    "Capacity",
    "Used",
    "Filesystem",
    "Policy",
    "Disk Format",
    "Attached-to",
    "Access",
    "Attach-as",
    "Created By",
    "Created Date",
];
const VOLUME_SHORT: &[&str] = &["Volume", "Capacity", "Disk Format", "Attached-to"];
const OF_GROUP: Opt = text(
    "vmgroup",
    "Only volumes of vmgroups whose names fit this pattern",
);

/// The commands.
pub(super) const COMMANDS: &[Node] = &[
    verb(
        "ls",
        Act::VolumeLs,
        Answer::Table(VOLUME_HEADER),
        "List volumes",
        &[
            Opt {
                name: "c",
                takes: Takes::Columns,
                required: false,
                about: "Show these columns only",
            },
            OF_GROUP,
        ],
    ),
    verb(
        "shortls",
        Act::VolumeLs,
        Answer::Shown(VOLUME_HEADER, VOLUME_SHORT),
        "List volumes, the most important columns only",
        &[OF_GROUP],
    ),
    verb(
        "set",
        Act::VolumeSet,
        Answer::Message,
        "Change settings of a volume; they count from its next attach",
        &[
            needed("volume", "The volume, as volume@datastore"),
            needed("vmgroup", "Name of the vmgroup it is in"),
            needed(
                "options",
                "What to set, e.g. access=read-only,attach-as=persistent",
            ),
        ],
    ),
];
