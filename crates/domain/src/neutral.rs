//! What a VM is told of a failure: what happened and what to do, but no path of the host, no datastore that it did not
//! name and may not use, and nothing of what lies in files of the host. The full text stays on the host, in the audit
//! and the log.

use crate::error::Error;
use crate::names::DatastoreName;

/// Stands for what only the host's people should read.
const SEE_LOG: &str = "the host's log says more";

/// A reason without the host's paths.
fn plain(why: String) -> String {
    // That is no path.
    match why.replace("I/O", "").contains(['/', '\\', '[']) {
        true => SEE_LOG.to_owned(),
        false => why,
    }
}

impl Error {
    /// The failure as a VM is told of it that named `said` as the datastore; none: it named none.
    #[must_use]
    pub fn for_guest(self, said: Option<&DatastoreName>) -> Self {
        match self {
            Self::NotConfigured { datastore, .. } => Self::Closed {
                to: match said {
                    Some(said) if said.matches(&datastore) => format!("datastore {said}"),
                    _ => "a datastore".to_owned(),
                },
            },
            Self::DatastoreUnavailable { datastore, why } => Self::DatastoreUnavailable {
                datastore,
                why: plain(why),
            },
            Self::HostFailed { verb, why } => Self::HostFailed {
                verb,
                why: plain(why),
            },
            Self::Unresolved {
                name,
                operation,
                why,
            } => Self::Unresolved {
                name,
                operation,
                why: plain(why),
            },
            Self::Unwritten { name, why } => Self::Unwritten {
                name,
                why: plain(why),
            },
            Self::CloneFailed { source_name, why } => Self::CloneFailed {
                source_name,
                why: plain(why),
            },
            Self::Damaged { what, why } => Self::Damaged {
                what: match plain(what) {
                    what if what == SEE_LOG => "what the host keeps of it".to_owned(),
                    what => what,
                },
                why: plain(why),
            },
            Self::NewerFormat { found, known, .. } => Self::NewerFormat {
                what: "what the host keeps of it".to_owned(),
                found,
                known,
            },
            Self::Internal(why) => Self::Internal(plain(why)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ds(name: &str) -> DatastoreName {
        DatastoreName::new(name).unwrap()
    }

    fn secret() -> Vec<Error> {
        let path = || "[secret] dockvols/.vdvs/config.3: /vmfs/volumes/secret".to_owned();
        vec![
            Error::NotConfigured {
                datastore: ds("secret"),
                why: path(),
            },
            Error::DatastoreUnavailable {
                datastore: ds("mine"),
                why: path(),
            },
            Error::HostFailed {
                verb: "attach",
                why: path(),
            },
            Error::Damaged {
                what: path(),
                why: path(),
            },
            Error::NewerFormat {
                what: path(),
                found: 2,
                known: 1,
            },
            Error::Internal(path()),
        ]
    }

    #[test]
    fn a_vm_is_told_no_path_of_the_host_and_no_datastore_that_it_did_not_name() {
        for error in secret() {
            let kind = error.kind();
            let told = error.for_guest(None);
            assert_eq!(told.kind(), kind);
            let text = told.to_string();
            assert!(!text.contains("secret") && !text.contains('/'), "{text}");
        }
    }

    #[test]
    fn a_datastore_is_named_as_the_vm_wrote_it() {
        let asked = ds("SECRET");
        for error in secret().into_iter().take(1) {
            let text = error.for_guest(Some(&asked)).to_string();
            assert!(text.contains("datastore SECRET"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
