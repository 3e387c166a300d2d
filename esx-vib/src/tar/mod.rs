//! The payload's archive.
//!
//! Written as plain ustar: every reader knows it, GNU tar and the host's own among them. No pax headers, no long names:
//! a name has at most 100 characters. Read are ustar, GNU's form, and VMware's *visor* form, whose data lies behind all
//! headers at places the headers name.

mod read;
mod write;

pub use read::{MOST_ENTRIES, read};
pub use write::{EPOCH, NewEntry, write};

/// Headers and data come in blocks of this size.
pub(crate) const BLOCK: usize = 512;
/// Longest name.
pub const NAME: usize = 100;
/// Mode bits that are permissions, with set-user, set-group and sticky.
pub const MODES: u32 = 0o7777;
/// On ESXi: the file may be changed, and its change is kept over reboots.
pub const STICKY: u32 = 0o1000;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link(String),
    /// Anything else, by its type byte: pax headers, GNU's long names, devices.
    Other(u8),
}

/// Whose form a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// POSIX.
    Ustar,
    /// GNU.
    Gnu,
    /// VMware.
    Visor,
    /// Before there were any.
    Old,
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it stands there, a folder's with its `/`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permissions and sticky bit.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
    /// When it was changed, in seconds since 1970.
    pub changed: u64,
    /// Whose form its header has.
    pub dialect: Dialect,
    /// A file's content.
    pub data: Vec<u8>,
}

#[cfg(test)]
mod tests;
