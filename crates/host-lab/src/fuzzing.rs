//! What fuzzers check of this crate (`docs/fuzzing.md`). Panics when a promise does not hold.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{Reply, Request};

/// Lines of `labhv.sock`: what is a request or reply, written as either side writes it, is one line and the same.
pub fn labhv_lines(bytes: &[u8]) {
    for line in bytes.split(|b| *b == b'\n') {
        same::<Request>(line);
        same::<Reply>(line);
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq>(line: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(line) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    assert!(!written.contains(&b'\n'), "one line is one message");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert!(again == read);
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_line_is_refused_or_survives_being_written_again() {
        vdvs_corpus::check("labhv_lines", super::labhv_lines);
    }
}
