//! What fuzzers check of this crate (`docs/fuzzing.md`). Panics when a promise does not hold.

use std::fmt::Debug;

use crate::descriptor::Descriptor;
use crate::error::ReadError;
use crate::vib::Vib;
use crate::{ar, bundle::Bundle, gzip, rules, tar};

/// Packages, and each container of one by itself: whatever the bytes are, they are refused or understood, and what was
/// understood is bounded by what is there. A descriptor that was understood means the same when written again.
pub fn packages(bytes: &[u8]) {
    if let Ok(members) = ar::read(bytes) {
        let data: usize = members.iter().map(|m| m.data.len()).sum();
        assert!(data <= bytes.len());
        if members.iter().all(|m| m.plain && !m.slashed) && fits(&members) {
            let again: Vec<_> = members.iter().map(|m| (m.name, m.data)).collect();
            let written = ar::write(&again).expect("these are names");
            assert_eq!(ar::read(&written).as_ref(), Ok(&members));
        }
    }
    for archive in [Ok(bytes.to_vec()), gzip::unpack(bytes)] {
        let archive: Result<Vec<u8>, ReadError> = archive;
        if let Ok(archive) = archive
            && let Ok(entries) = tar::read(&archive)
        {
            let data: usize = entries.iter().map(|e| e.data.len()).sum();
            assert!(data <= archive.len());
        }
    }
    again(Descriptor::parse(bytes), |d| {
        Descriptor::parse(d.render().as_bytes())
    });
    // The rules look closer, and must not stumble either.
    if let Ok(vib) = Vib::read(bytes) {
        assert_eq!(vib.descriptor.payloads.len(), vib.payloads.len());
        rules::package(bytes).ok();
    }
    if let Ok(bundle) = Bundle::read(bytes) {
        assert_eq!(bundle.packages.len(), bundle.descriptors.len());
        rules::bundle(bytes).ok();
    }
}

fn fits(members: &[ar::Member<'_>]) -> bool {
    let graphic = |name: &str| name.bytes().all(|b| b.is_ascii_graphic());
    members.iter().all(|m| graphic(m.name))
}

fn again<T: PartialEq + Debug, E: Debug>(read: Result<T, E>, written: impl Fn(&T) -> Result<T, E>) {
    if let Ok(read) = read {
        let again = written(&read).expect("what was written can be read");
        assert_eq!(again, read);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_package_is_refused_or_understood() {
        vdvs_corpus::check("packages", super::packages);
    }
}
