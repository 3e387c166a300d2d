//! How a datastore stands with its configuration, for whoever sets it up; and what an administrator is shown of it.

use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::Document;
use super::follow::Led;
use super::marker::{Marker, MarkerFile};
use super::{Governed, Rules};
use crate::config::{ConfigChange, ConfigDatastore, ConfigDocument, ConfigShown};
use crate::inner::Inner;
use crate::layout;
use crate::ports::DatastoreInfo;

/// How a datastore stands.
#[derive(Debug)]
pub(super) enum Stand {
    /// A configuration governs it.
    Follows(Arc<Rules>),
    /// Nobody ever used it.
    Unused,
    /// It has a `dockvols` without a marker: the original's.
    Unmarked,
    /// Its configuration, which lies on `home`, was removed.
    Removed { home: DatastoreName, by: String },
    /// What its marker names is not there, or it is damaged itself.
    Lost { marker: Option<Marker>, why: String },
}

impl Inner {
    /// How `ds` stands, looked up now.
    pub(super) async fn stand_of(&self, ds: &DatastoreName) -> Result<Stand, Error> {
        let marker = match self.read_marker(ds).await? {
            MarkerFile::Is(marker) => marker,
            other => {
                let untouched = self.untouched(ds).await?;
                return Ok(match (other, untouched) {
                    (_, true) => Stand::Unused,
                    (MarkerFile::Torn, false) => Stand::Lost {
                        marker: None,
                        why: format!("{} is damaged", layout::marker()),
                    },
                    _ => Stand::Unmarked,
                });
            }
        };
        match self.led_by(&marker).await? {
            Led::To(..) => match self.look_up_governed(ds).await? {
                Governed::By(rules) => Ok(Stand::Follows(rules)),
                _ => Err(ConfigFault::HomeUnavailable {
                    home: ds.clone(),
                    why: "it is being changed by others".to_owned(),
                }
                .into()),
            },
            Led::Removed(home, document) => Ok(Stand::Removed {
                home,
                by: document.last_change(),
            }),
            Led::Nowhere(why) => Ok(Stand::Lost {
                marker: Some(marker),
                why,
            }),
        }
    }

    /// What governs this host's datastores.
    pub(crate) async fn config_show(&self) -> Result<ConfigShown, Error> {
        let mut datastores = Vec::new();
        let mut rules: Vec<Arc<Rules>> = Vec::new();
        for info in self.datastores().await? {
            let (shown, by) = self.config_of(&info).await;
            if let Some(by) = by.filter(|by| !rules.iter().any(|r| r.config == by.config)) {
                rules.push(by);
            }
            datastores.push(shown);
        }
        let mut documents = Vec::new();
        for rules in &rules {
            let document = self.newest_of(rules).await;
            let last = document.as_ref().and_then(|d| d.history.last());
            documents.push(ConfigDocument {
                id: rules.config,
                home: rules.home.clone(),
                version: rules.version,
                changed: last.map(|c| (c.at, format!("{} on host {}", c.who, c.host))),
                groups: rules.access.groups.len(),
                policies: rules.access.policies.len(),
                kept: rules.kept,
            });
        }
        let locations = rules.iter().map(|r| location(&r.home)).collect();
        Ok(ConfigShown {
            mode: self.config_mode().await,
            locations,
            datastores,
            documents,
        })
    }

    async fn config_of(&self, info: &DatastoreInfo) -> (ConfigDatastore, Option<Arc<Rules>>) {
        let mut shown = ConfigDatastore {
            datastore: info.name.clone(),
            id: Uuid::nil(),
            config: Uuid::nil(),
            home: None,
            state: "unreadable",
            problem: String::new(),
        };
        match self.governed_in_time(info).await {
            Ok(Governed::By(rules)) => {
                shown.id = rules.datastore;
                shown.config = rules.config;
                shown.home = Some(rules.home.clone());
                shown.state = match rules.kept {
                    true => "kept",
                    false => "governed",
                };
                if rules.kept {
                    shown.problem = format!(
                        "{} cannot be read; the copy kept on this host is used. Bring it back",
                        rules.home
                    );
                }
                return (shown, Some(rules));
            }
            Ok(Governed::Fresh(_)) => shown.state = "fresh",
            Ok(Governed::Not(why)) => (shown.state, shown.problem) = ("closed", why),
            Err(why @ Error::DatastoreUnavailable { .. }) => shown.problem = why.to_string(),
            Err(why) => (shown.state, shown.problem) = ("closed", why.to_string()),
        }
        if shown.state == "closed"
            && let Ok(MarkerFile::Is(marker)) = self.read_marker(&info.name).await
        {
            shown.id = marker.datastore;
            shown.config = marker.config;
            shown.home = Some(marker.home);
        }
        (shown, None)
    }

    /// The document behind these rules: at its home, or the copy kept.
    pub(super) async fn newest_of(&self, rules: &Rules) -> Option<Document> {
        if !rules.kept
            && let Ok((_, Some(document))) = self.read_document(&rules.home).await
        {
            return Some(document);
        }
        let kept = self.ports.store.kept_config(rules.config).await.ok()??;
        Document::decode(&rules.home, &kept.bytes).ok()?
    }

    /// The last changes, newest first.
    pub(crate) async fn config_history(&self) -> Result<Vec<ConfigChange>, Error> {
        let (_, rules) = self.one_home().await?;
        let document = self.newest_of(&rules).await;
        let history = document.map(|d| d.history).unwrap_or_default();
        let shown = history.into_iter().rev().map(|c| ConfigChange {
            version: c.version,
            at: c.at,
            who: c.who,
            host: c.host,
            what: c.what,
        });
        Ok(shown.collect())
    }

    /// The one removed configuration that some datastore here still names, with its home.
    pub(super) async fn one_removed(&self) -> Result<Option<DatastoreName>, Error> {
        let mut found: Vec<DatastoreName> = Vec::new();
        for info in self.datastores().await? {
            if info.accessible
                && let Stand::Removed { home, .. } = self.stand_of(&info.name).await?
                && !found.contains(&home)
            {
                found.push(home);
            }
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => Err(ConfigFault::Refused {
                text: format!(
                    "several removed configurations are found, on {}; make one datastore follow with: vdvs config init --datastore DATASTORE --force",
                    several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            }
            .into()),
        }
    }
}

/// Where a document lies, in the manner of a host's shell.
pub(super) fn location(home: &DatastoreName) -> String {
    format!(
        "/vmfs/volumes/{home}/{}/{}",
        layout::own_dir(),
        layout::CONFIG
    )
}
