//! Bounds of the contract. A peer that goes beyond them is refused before its message is read.

use std::time::Duration;

/// Largest request in bytes. The largest honest one is an inventory: at most 256 disks of 60 bytes each.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Largest reply in bytes. Ten thousand volumes of half a kilobyte, three times over.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;
/// Volumes in one inventory report: four controllers with 64 disks each, the most a VM can have.
pub const MAX_INVENTORY: usize = 256;
/// Longest key or value of an option in bytes: names are shorter, and so is every value there is.
pub const MAX_OPTION_TEXT: usize = 256;
/// Longest name of a program or feature that `Hello` keeps; the rest is cut.
pub const MAX_LABEL: usize = 64;
/// Features read from a `Hello`.
pub const MAX_FEATURES: usize = 32;
/// Longest text of an error in bytes. A header carries it percent-encoded, thrice as long at worst, and a client reads
/// 16 KiB of headers.
pub const MAX_ERROR_TEXT: usize = 4096;
/// Longest wait for another VM that a request may ask for; beyond it the wait is cut, not refused.
pub const MAX_WAIT: Duration = Duration::from_secs(600);
/// A call that names no deadline gets this one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// The longest deadline honoured: the longest wait and the time for the work itself.
pub const MAX_DEADLINE: Duration = Duration::from_secs(900);

/// `text` cut to at most `max` bytes, at a character's edge.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("żółw", 3), "ż");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 0), "");
    }
}
