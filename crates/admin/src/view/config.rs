//! The configuration document: where it lies, and its history.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, present};
use crate::grid::{Cell, Column, Grid, Row, number, text};
use crate::time::rfc3339;

/// `vdvs config status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    pub mode: String,
    pub local_path: Option<String>,
    pub shared_location: Option<String>,
    pub datastores: Vec<ConfigDatastore>,
    pub documents: Vec<ConfigDocument>,
}

/// A datastore, and what governs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigDatastore {
    pub datastore: String,
    pub datastore_id: Option<String>,
    pub config_id: Option<String>,
    pub home: Option<String>,
    pub state: String,
    pub problem: Option<String>,
}

/// A configuration this host follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigDocument {
    pub id: String,
    pub home: String,
    pub version: u64,
    pub changed_at: Option<String>,
    pub changed_by: Option<String>,
    pub groups: u32,
    pub policies: u32,
    pub kept: bool,
}

/// `vdvs config history`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    pub version: u64,
    pub at: Option<String>,
    pub who: String,
    pub host: String,
    pub what: String,
}

impl From<v1::ShowConfigReply> for Config {
    fn from(r: v1::ShowConfigReply) -> Self {
        let datastores = r.datastores.into_iter().map(|d| ConfigDatastore {
            datastore: d.datastore,
            datastore_id: present(d.datastore_id),
            config_id: present(d.config_id),
            home: present(d.home),
            state: d.state,
            problem: present(d.problem),
        });
        let documents = r.documents.into_iter().map(|d| ConfigDocument {
            id: d.id,
            home: d.home,
            version: d.version,
            changed_at: rfc3339(d.changed_unix_ms),
            changed_by: present(d.changed_by),
            groups: d.groups,
            policies: d.policies,
            kept: d.kept,
        });
        Self {
            mode: r.mode,
            local_path: present(r.local_path),
            shared_location: present(r.shared_location),
            datastores: datastores.collect(),
            documents: documents.collect(),
        }
    }
}

impl From<v1::ConfigChange> for ConfigChange {
    fn from(c: v1::ConfigChange) -> Self {
        Self {
            version: c.version,
            at: rfc3339(c.at_unix_ms),
            who: c.who,
            host: c.host,
            what: c.what,
        }
    }
}

impl Tabular for Vec<ConfigDatastore> {
    fn grid(&self) -> Grid {
        const DATASTORES: &[Column] = &[
            text("datastore", "Datastore"),
            text("state", "State"),
            text("home", "Home"),
            text("config", "Config"),
            text("datastore-id", "Datastore Id"),
            text("problem", "Problem"),
        ];
        let row = |d: &ConfigDatastore| Row {
            cells: vec![
                Cell::text(&d.datastore),
                Cell::text(&d.state),
                Cell::maybe(d.home.as_deref()),
                Cell::maybe(d.config_id.as_deref()),
                Cell::maybe(d.datastore_id.as_deref()),
                Cell::maybe(d.problem.as_deref()),
            ],
            marked: d.problem.is_some(),
        };
        Grid {
            columns: DATASTORES,
            rows: self.iter().map(row).collect(),
        }
    }
}

impl Tabular for Vec<ConfigDocument> {
    fn grid(&self) -> Grid {
        const DOCUMENTS: &[Column] = &[
            text("home", "Home"),
            number("version", "Version"),
            number("groups", "Groups"),
            number("policies", "Policies"),
            text("changed", "Changed"),
            text("by", "By"),
            text("id", "Id"),
        ];
        let row = |d: &ConfigDocument| Row {
            cells: vec![
                Cell::text(&d.home),
                Cell::Count(d.version),
                Cell::Count(d.groups.into()),
                Cell::Count(d.policies.into()),
                Cell::maybe(d.changed_at.as_deref()),
                Cell::maybe(d.changed_by.as_deref()),
                Cell::text(&d.id),
            ],
            marked: d.kept,
        };
        Grid {
            columns: DOCUMENTS,
            rows: self.iter().map(row).collect(),
        }
    }
}

impl Tabular for Config {
    fn grid(&self) -> Grid {
        self.datastores.grid()
    }
}

impl Tabular for Vec<ConfigChange> {
    fn grid(&self) -> Grid {
        const CHANGES: &[Column] = &[
            number("version", "Version"),
            text("time", "Time"),
            text("who", "Who"),
            text("host", "Host"),
            text("what", "What"),
        ];
        let row = |c: &ConfigChange| {
            vec![
                Cell::Count(c.version),
                Cell::maybe(c.at.as_deref()),
                Cell::text(&c.who),
                Cell::text(&c.host),
                Cell::text(&c.what),
            ]
        };
        Grid::new(CHANGES, self.iter().map(row))
    }
}
