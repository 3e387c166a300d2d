//! `vmgroup`, `vmgroup vm`, `vmgroup access`

use super::{Act, Answer, Node, Opt, Takes, flag, list, needed, size, text, verb};

const GROUP_HEADER: &[&str] = &[
    "Uuid",
    "Name",
    "Description",
    "Default_datastore",
    "VM_list",
];
const VM_HEADER: &[&str] = &["Uuid", "Name"];
const ACCESS_HEADER: &[&str] = &["Datastore", "Allow_create", "Max_volume_size", "Total_size"];

const NAME: Opt = needed("name", "Name of the vmgroup");
const DATASTORE: Opt = needed(
    "datastore",
    "Datastore the access is to; _VM_DS and _ALL_DS are placeholders",
);
const MAX: Opt = size("volume-maxsize", "Largest single volume; 0 lifts the limit");
const TOTAL: Opt = size(
    "volume-totalsize",
    "All volumes together; 0 lifts the limit",
);
const DEFAULT_SIZE: Opt = size(
    "default-size",
    "Size of its volumes when a request names none",
);
const MOVE: Opt = flag(
    "move-volumes",
    "The VMs' volumes come along into the new vmgroup",
);
const LEAVE: Opt = flag(
    "leave-volumes",
    "The VMs' volumes stay in the old vmgroup, out of their reach",
);

/// The commands.
pub(super) const COMMANDS: &[Node] = &[
    verb(
        "create",
        Act::GroupCreate,
        Answer::Message,
        "Create a vmgroup",
        &[
            NAME,
            needed(
                "default-datastore",
                "Where its new volumes go when a request names no datastore",
            ),
            text("description", "For people"),
            DEFAULT_SIZE,
            list("vm-list", false, "VMs to put in, by name or instance UUID"),
            MOVE,
            LEAVE,
        ],
    ),
    verb(
        "update",
        Act::GroupUpdate,
        Answer::Message,
        "Change a vmgroup; what is not named stays",
        &[
            NAME,
            text("new-name", "Its new name"),
            text("description", "Its new description; empty clears it"),
            text(
                "default-datastore",
                "Where its new volumes go when a request names no datastore",
            ),
            DEFAULT_SIZE,
        ],
    ),
    verb(
        "rm",
        Act::GroupRm,
        Answer::Message,
        "Remove a vmgroup",
        &[
            NAME,
            flag(
                "remove-volumes",
                "BE CAREFUL: its volumes and all their data are removed too",
            ),
            flag("force", "Also while VMs belong to it"),
        ],
    ),
    verb(
        "ls",
        Act::GroupLs,
        Answer::Table(GROUP_HEADER),
        "List vmgroups and their VMs",
        &[],
    ),
    Node::Group {
        name: "vm",
        about: "Manage the VMs of a vmgroup",
        nodes: VM,
    },
    Node::Group {
        name: "access",
        about: "Manage a vmgroup's access to datastores",
        nodes: ACCESS,
    },
];

const VM: &[Node] = &[
    verb(
        "add",
        Act::VmAdd,
        Answer::Message,
        "Add VMs to a vmgroup",
        &[
            NAME,
            list("vm-list", true, "VMs to add, by name or instance UUID"),
            MOVE,
            LEAVE,
        ],
    ),
    verb(
        "rm",
        Act::VmRm,
        Answer::Message,
        "Remove VMs from a vmgroup",
        &[
            NAME,
            list("vm-list", true, "VMs to remove, by name or instance UUID"),
            MOVE,
            LEAVE,
        ],
    ),
    verb(
        "replace",
        Act::VmReplace,
        Answer::Message,
        "Make these VMs, and no others, the members of a vmgroup",
        &[
            NAME,
            list("vm-list", true, "Its VMs, by name or instance UUID"),
            MOVE,
            LEAVE,
        ],
    ),
    verb(
        "ls",
        Act::VmLs,
        Answer::Table(VM_HEADER),
        "List the VMs of a vmgroup",
        &[NAME],
    ),
];

const ACCESS: &[Node] = &[
    verb(
        "add",
        Act::AccessAdd,
        Answer::Message,
        "Give a vmgroup access to a datastore",
        &[
            NAME,
            DATASTORE,
            flag(
                "allow-create",
                "It may also create and remove volumes there",
            ),
            MAX,
            TOTAL,
        ],
    ),
    verb(
        "set",
        Act::AccessSet,
        Answer::Message,
        "Change a vmgroup's access to a datastore; what is not named stays",
        &[
            NAME,
            DATASTORE,
            Opt {
                name: "allow-create",
                takes: Takes::Truth,
                required: false,
                about: "Whether it may also create and remove volumes there",
            },
            MAX,
            TOTAL,
        ],
    ),
    verb(
        "rm",
        Act::AccessRm,
        Answer::Message,
        "Take a vmgroup's access to a datastore",
        &[NAME, DATASTORE],
    ),
    verb(
        "ls",
        Act::AccessLs,
        Answer::Table(ACCESS_HEADER),
        "List a vmgroup's access to datastores",
        &[NAME],
    ),
];
