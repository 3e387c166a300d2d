//! The protocol of `labhv.sock`: one JSON object per line, a reply for each request, in order.
//!
//! ```text
//! {"id":1,"call":{"attach":{"vm":"swarm01","disk":{"datastore":"vsanDatastore","path":"dockvols/…/v.vmdk"},"read_only":false}}}
//! {"id":1,"ok":{"attached":{"device":{…,"locator":"/dev/loop3",…},"changed":true}}}
//! {"id":2,"error":{"kind":"locked","text":"…","holder":"swarm02"}}
//! ```
//!
//! | call | what it does to a disk |
//! |---|---|
//! | `attach` | locks it for this host and VM, binds a device, shows it to the guest. `locked` names the other VM, of whichever host |
//! | `detach` | removes it unless the guest uses it (`busy`) |
//! | `detach` with `force` | fences: what was flushed is kept, every further request fails; answered when no byte changes any more and the lock is free |
//! | `lock` | `held`: open somewhere, being fenced, or locked by a host whose lease has not lapsed. `unknown`: the datastore cannot be read |
//! | `power_on` | opens what is configured; one that is locked elsewhere keeps the VM off |
//! | `power_off` | closes all, keeps the configuration |
//! | `suspend` | closes all, lock `free`; the VM's `.vmx` names a saved state meanwhile |
//! | `resume` | opens all again, or nothing: `locked`, or `invalid` when a disk was written since |
//!
//! A disk that a host lost with its lease stays in the VM's list, `open: false`, until it is attached again or the VM
//! boots.
//!
//! A connection serves its requests one after the other; [`Call::WaitChange`] therefore wants one of its own. A line
//! longer than [`MAX_LINE`] or that is not a request is answered with `invalid` (and id 0); after the former the
//! connection ends.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::qemu::Place;

/// Longest line either side reads. A VM list of 60 VMs is below 16 KiB.
pub const MAX_LINE: usize = 64 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller, repeated in the reply.
    pub id: u64,
    /// What is wanted.
    pub call: Call,
}

/// The answer to the request with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// `ok` or `error`.
    #[serde(flatten)]
    pub result: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok(Answer),
    /// Refused or failed.
    Error(LabError),
}

impl From<Result<Answer, LabError>> for Outcome {
    fn from(result: Result<Answer, LabError>) -> Self {
        match result {
            Ok(answer) => Self::Ok(answer),
            Err(error) => Self::Error(error),
        }
    }
}

impl From<Outcome> for Result<Answer, LabError> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(error) => Err(error),
        }
    }
}

/// A virtual disk: its descriptor's path below a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disk {
    /// The datastore's name.
    pub datastore: String,
    /// Relative path of the descriptor.
    pub path: String,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.path)
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// All VMs of this host.
    ListVms,
    /// The disks in a VM's configuration.
    ListDevices {
        /// Name of the VM.
        vm: String,
    },
    /// Hot-adds a disk to a running VM. Already there in the same mode: the same device, nothing changed.
    Attach {
        /// Name of the VM.
        vm: String,
        /// Which disk.
        disk: Disk,
        /// Not writable for the guest.
        read_only: bool,
    },
    /// Takes a disk out of a VM's configuration, hot if it runs. Not there: nothing changed.
    Detach {
        /// Name of the VM.
        vm: String,
        /// Which disk.
        disk: Disk,
        /// Also while the guest uses it: its requests fail from then on, and no byte of the disk changes any more.
        #[serde(default)]
        force: bool,
    },
    /// The lock on a disk.
    Lock {
        /// Which disk.
        disk: Disk,
    },
    /// The VM's init runs: opens the configured disks. Repeating it for the same init completes what is missing.
    PowerOn {
        /// Name of the VM.
        vm: String,
        /// Process id of its init, in this machine's root namespace.
        pid: i32,
        /// Start time of that process (`/proc/<pid>/stat`, field 22), because ids are used again.
        start_time: u64,
    },
    /// Kills the VM's init, as a power cut does, and closes its disks. Off already: nothing to do.
    PowerOff {
        /// Name of the VM.
        vm: String,
    },
    /// Stops the VM where it stands. Its disks close: their locks are free, and its configuration file names a saved
    /// state until it is resumed. Suspended already: nothing to do.
    Suspend {
        /// Name of the VM.
        vm: String,
    },
    /// Lets a suspended VM go on, after its disks were locked again. Runs already: nothing to do.
    Resume {
        /// Name of the VM.
        vm: String,
    },
    /// Answers when the generation is no longer `since`, or after the time.
    WaitChange {
        /// The generation the caller knows; 0: none.
        since: u64,
        /// Longest wait in milliseconds; at most 60,000 are waited.
        timeout_ms: u64,
    },
}

/// The answers, one kind per call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Call::ListVms`].
    Vms(Vec<VmState>),
    /// To [`Call::ListDevices`].
    Devices(Vec<Device>),
    /// To [`Call::Attach`].
    Attached {
        /// Where it is.
        device: Device,
        /// False: it was there before.
        changed: bool,
    },
    /// To [`Call::Detach`].
    Detached {
        /// False: it was not there.
        changed: bool,
    },
    /// To [`Call::Lock`].
    Lock {
        /// Free, held or unknown.
        state: LockState,
        /// The VM that has it open, where known.
        holder: Option<String>,
    },
    /// To [`Call::PowerOn`].
    PoweredOn,
    /// To [`Call::PowerOff`].
    PoweredOff,
    /// To [`Call::Suspend`].
    Suspended,
    /// To [`Call::Resume`].
    Resumed,
    /// To [`Call::WaitChange`]: the present generation.
    Generation(u64),
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// Name.
    pub name: String,
    /// Instance UUID.
    pub instance_uuid: Uuid,
    /// Configuration file, for example `[vsanDatastore] swarm01/swarm01.vmx`.
    pub config_path: String,
    /// Whether it runs.
    pub power: Power,
    /// The host's generation when something about this VM changed last.
    pub generation: u64,
}

/// Whether a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Its init lives.
    On,
    /// It does not.
    Off,
    /// Its processes are stopped and its disks closed, yet it goes on with them when it is resumed.
    Suspended,
}

/// A disk in a VM's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Which disk.
    pub disk: Disk,
    /// Not writable for the guest.
    pub read_only: bool,
    /// Path of the device inside the VM; none while the host has the disk closed, or shows it at a `place`.
    pub locator: Option<String>,
    /// Where a QEMU VM's guest finds it; none while the host has the disk closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The host has the disk open for this VM. (Whether the guest has the device open is its own affair.)
    pub open: bool,
    /// Place on the VM's controllers: 0, 1, …, without the controllers' own number 7.
    pub unit: u32,
}

/// The lock on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockState {
    /// Nobody has it open.
    Free,
    /// Somebody has.
    Held,
    /// Cannot be told. Never proof of anything.
    Unknown,
}

/// A refusal or failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct LabError {
    /// For programs.
    pub kind: LabErrorKind,
    /// For people.
    pub text: String,
    /// With `locked`: the VM that has the disk open, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabErrorKind {
    /// No VM of that name.
    NoSuchVm,
    /// The VM does not run.
    PoweredOff,
    /// No such datastore or disk.
    NoSuchDisk,
    /// Somebody else has the disk open.
    Locked,
    /// No free place on the VM's controllers.
    NoSpace,
    /// The guest still uses the device.
    Busy,
    /// A request that makes no sense.
    Invalid,
    /// Begun, and not to its end: labhv goes on with it by itself.
    Unfinished,
    /// The machine failed.
    Io,
}

impl LabError {
    /// An error of this kind.
    pub fn new(kind: LabErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            holder: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            datastore: "ds".to_owned(),
            path: "dockvols/g/v.vmdk".to_owned(),
        }
    }

    #[test]
    fn requests_and_replies_look_as_documented() {
        let request = Request {
            id: 1,
            call: Call::Attach {
                vm: "a".to_owned(),
                disk: disk(),
                read_only: false,
            },
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"id":1,"call":{"attach":{"vm":"a","disk":{"datastore":"ds","path":"dockvols/g/v.vmdk"},"read_only":false}}}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let plain: Request = serde_json::from_str(r#"{"id":7,"call":"list_vms"}"#).unwrap();
        assert_eq!(plain.call, Call::ListVms);
        let locked = LabError {
            holder: Some("b".to_owned()),
            ..LabError::new(LabErrorKind::Locked, "no")
        };
        let reply = Reply {
            id: 2,
            result: Outcome::Error(locked),
        };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            text,
            r#"{"id":2,"error":{"kind":"locked","text":"no","holder":"b"}}"#
        );
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
        let reply = Reply {
            id: 3,
            result: Outcome::Ok(Answer::PoweredOff),
        };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"id":3,"ok":"powered_off"}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
}
