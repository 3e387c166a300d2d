//! Versions of the API.
//!
//! Every call names the version it is written in. Ours are written in 6.5, which every host we support still speaks; a
//! call that came later names the version it came with, or the next one the host lists.

use crate::xml::Element;

/// A version of the API, as `8.0.2.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion([u16; 4]);

impl ApiVersion {
    /// What our calls are written in.
    pub(crate) const BASE: Self = Self([6, 5, 0, 0]);
    /// `DatastoreNamespaceManager.CreateDirectory` has a size.
    pub(crate) const V7_0_2: Self = Self([7, 0, 2, 0]);
    /// `QueryFileLockInfo` exists.
    pub(crate) const V8_0_2: Self = Self([8, 0, 2, 0]);

    fn parse(text: &str) -> Option<Self> {
        let mut parts = [0; 4];
        let mut places = parts.iter_mut();
        for number in text.split('.') {
            *places.next()? = number.parse().ok()?;
        }
        Some(Self(parts))
    }
}

/// [`ApiVersion::BASE`] in the spelling of hosts.
const BASE: &str = "6.5";

/// Most versions read of a host's list. ESXi 8 lists about thirty.
const MOST: usize = 256;

/// The versions a host lists, in its own spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Versions(Vec<(ApiVersion, String)>);

impl Versions {
    /// Reads `vimServiceVersions.xml`: namespaces, each with its present version and prior ones.
    pub(crate) fn read(document: &Element) -> Self {
        let mut found = Vec::new();
        let ours = |n: &&Element| n.text_of("name") == Some("urn:vim25");
        for namespace in document.all("namespace").filter(ours) {
            let prior = namespace
                .all("priorVersions")
                .flat_map(|p| p.all("version"));
            for version in namespace.all("version").chain(prior).take(MOST) {
                if let Some(parsed) = ApiVersion::parse(version.text()) {
                    found.push((parsed, version.text().to_owned()));
                }
            }
        }
        found.sort();
        found.dedup();
        Self(found)
    }

    /// The value of `SOAPAction` for a call that came with `since`: the oldest version listed that has it, else the newest
    /// one, in which the host refuses what it does not know. A host without a list is taken for one that speaks ours.
    pub(crate) fn action(&self, since: ApiVersion) -> String {
        let has = self.0.iter().find(|(version, _)| *version >= since);
        let spelling = has.or(self.0.last()).map_or(BASE, |(_, spelling)| spelling);
        format!("urn:vim25/{spelling}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    const LIST: &str = r#"<?xml version="1.0"?><namespaces version="1.0"><namespace><name>urn:vim25</name>
        <version>8.0.2.0</version><priorVersions><version>8.0.1.0</version><version>7.0.3.2</version>
        <version>6.7</version><version>6.5</version><version>2.5u2</version></priorVersions></namespace>
        <namespace><name>urn:other</name><version>9.9</version></namespace></namespaces>"#;

    #[test]
    fn a_call_names_the_oldest_version_that_has_it() {
        let list = parse(LIST.as_bytes(), &Limits::ANSWER).expect("it is XML");
        let versions = Versions::read(&list);
        let action = |since| versions.action(since);
        assert_eq!(action(ApiVersion::BASE), "urn:vim25/6.5");
        assert_eq!(action(ApiVersion::V7_0_2), "urn:vim25/7.0.3.2");
        assert_eq!(action(ApiVersion::V8_0_2), "urn:vim25/8.0.2.0");
        assert_eq!(action(ApiVersion([9, 0, 0, 0])), "urn:vim25/8.0.2.0");
    }

    #[test]
    fn a_host_that_no_longer_lists_ours_is_spoken_to_in_its_oldest() {
        let list = Versions(vec![(ApiVersion([7, 0, 0, 0]), "7.0".to_owned())]);
        assert_eq!(list.action(ApiVersion::BASE), "urn:vim25/7.0");
    }

    #[test]
    fn a_host_without_a_list_is_spoken_to_in_ours() {
        assert_eq!(
            Versions::default().action(ApiVersion::V8_0_2),
            "urn:vim25/6.5"
        );
    }
}
