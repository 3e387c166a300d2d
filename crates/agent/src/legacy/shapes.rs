//! What the original's plugin reads: JSON, to the letter of every key.

use serde_json::{Map, Value, json};
use vdvs_domain::Timestamp;
use vdvs_domain::ownership::Locator;
use vdvs_engine::api::VolumeView;

/// Success of a verb that has nothing to tell.
pub(crate) const DONE: &str = "null";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A failure: one text, never anything else.
pub(crate) fn error(why: &(impl ToString + ?Sized)) -> String {
    json!({ "Error": why.to_string() }).to_string()
}

/// The version of this program.
pub(crate) fn version() -> String {
    json!({ "version": env!("CARGO_PKG_VERSION") }).to_string()
}

/// A listing of full names.
pub(crate) fn list(names: impl Iterator<Item = String>) -> String {
    let volume = |name: String| json!({ "Name": name, "Attributes": {} });
    Value::Array(names.map(volume).collect()).to_string()
}

/// The slot of the bridge that a controller sits behind. A VM's bridges lie where the hypervisor puts them when it makes
/// a VM: bridge `n` in slot `17 + n`.
const fn bridge_slot(bus: u32) -> u32 {
    17 + bus - 1
}

/// Where the guest finds a disk: all texts. The PCI address is that of the bridge above the controller, in hexadecimal.
pub(crate) fn place(locator: &Locator) -> Value {
    match locator {
        Locator::Scsi {
            controller_pci_slot: slot,
            target,
        } => {
            let (bus, function) = ((slot >> 5) & 31, (slot >> 10) & 7);
            let device = match bus {
                0 => *slot,
                bus => bridge_slot(bus),
            };
            json!({
                "Unit": target.to_string(),
                "ControllerPciSlotNumber": slot.to_string(),
                "ControllerPciBusNumber": format!("{device:x}.{function}"),
            })
        }
        // A machine whose disks are no SCSI disks: a key more, which the plugin does not read.
        Locator::Path(path) => json!({
            "Unit": "0",
            "ControllerPciSlotNumber": "0",
            "ControllerPciBusNumber": "0.0",
            "Path": path,
        }),
    }
}

/// Everything about a volume. Every key that the plugin relies on is there, always, and of its type.
pub(crate) fn volume(view: &VolumeView) -> Value {
    let options = &view.options;
    let maker = view.created.by.as_ref();
    let source = options.clone_from.as_deref().unwrap_or("None");
    let source = source.rsplit_once('@').map_or(source, |(name, _)| name);
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    put(
        "created by VM",
        json!(maker.map_or("", |vm| vm.name.as_str())),
    );
    put("created", json!(ctime(view.created.at)));
    put("datastore", json!(view.datastore.as_str()));
    put(
        "capacity",
        json!({ "size": human(view.capacity.bytes()), "allocated": human(view.allocated_bytes) }),
    );
    put("fstype", json!(view.filesystem.fstype.as_str()));
    put("diskformat", json!(options.diskformat.to_string()));
    put("attach-as", json!(options.attach_as.to_string()));
    put("access", json!(options.access.to_string()));
    put("clone-from", json!(source));
    if let Some(policy) = &options.policy {
        put("vsan-policy-name", json!(policy.as_str()));
    }
    match view.ownership.owner() {
        None => put("status", json!("detached")),
        Some(owner) => {
            put("status", json!("attached"));
            let name = match owner.vm.name.as_str() {
                "" => owner.vm.id.instance_uuid.to_string(),
                name => name.to_owned(),
            };
            put("attached to VM", json!(name));
            if let Some(locator) = &owner.locator {
                put("attachedVMDevice", place(locator));
            }
        }
    }
    Value::Object(map)
}

/// `100MB`, `2GB`: the largest unit that says it exactly, from MB on; below that rounded up.
pub(crate) fn human(bytes: u64) -> String {
    let exact = |unit: u64| bytes > 0 && bytes.is_multiple_of(unit);
    match bytes {
        _ if exact(TIB) => format!("{}TB", bytes / TIB),
        _ if exact(GIB) => format!("{}GB", bytes / GIB),
        0 => "0MB".to_owned(),
        less if less < MIB => format!("{}KB", less.div_ceil(KIB)),
        more => format!("{}MB", more.div_ceil(MIB)),
    }
}

/// `Wed Mar  1 20:06:02 2017`, in UTC.
pub(crate) fn ctime(at: Timestamp) -> String {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    // The first day of all was a Thursday.
    let weekday = match (at.millis() / DAY) % 7 {
        0 => "Thu",
        1 => "Fri",
        2 => "Sat",
        3 => "Sun",
        4 => "Mon",
        5 => "Tue",
        _ => "Wed",
    };
    let text = at.to_string();
    let mut words = text.split([' ', '-']);
    let mut next = || words.next().unwrap_or_default();
    let (year, month, day, time) = (next(), next(), next(), next());
    let month = month.parse::<usize>().ok().and_then(|m| m.checked_sub(1));
    let month = month.and_then(|m| MONTHS.get(m)).unwrap_or(&"???");
    let day = day.trim_start_matches('0');
    format!("{weekday} {month} {day:>2} {time} {year}")
}
