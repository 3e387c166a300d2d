//! What fuzzers check of this crate (`docs/fuzzing.md`). Panics when a promise does not hold.

use crate::descriptor::{Descriptor, MAX_BYTES};

/// Descriptors: parse → write → parse changes nothing, and a flat disk is as large as its one extent.
pub fn descriptors(bytes: &[u8]) {
    let Ok(read) = Descriptor::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= MAX_BYTES);
    assert!(!read.extents().is_empty());
    let written = read.render();
    // Quotes and separators are added to what had none, so a descriptor near the limit may come out above it.
    if written.len() <= MAX_BYTES {
        assert_eq!(
            Descriptor::parse(written.as_bytes()).as_ref(),
            Ok(&read),
            "{written}"
        );
    }
    if let (Some(extent), Ok(capacity)) = (read.flat_extent(), read.capacity()) {
        assert!(extent.kind.is_raw() && !extent.name.is_empty());
        assert_eq!(extent.sectors, capacity.sectors());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_descriptor_is_refused_or_survives_parse_and_write() {
        vdvs_corpus::check("descriptors", super::descriptors);
    }
}
