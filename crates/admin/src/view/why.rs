//! What a volume waits for, and its story.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, Volume, present};
use crate::grid::{Cell, Column, Grid, number, text};
use crate::time::rfc3339;

/// `vdvs volume why`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    pub volume: Option<Volume>,
    /// In one sentence.
    pub headline: String,
    pub proof: Option<String>,
    pub resolves: Option<String>,
    /// The one command to act.
    pub command: Option<String>,
    /// Oldest first.
    pub events: Vec<Event>,
    /// Hosts whose part of the story could not be read, or is old.
    pub missing: Vec<String>,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    pub at: Option<String>,
    pub host: String,
    pub kind: String,
    pub who: Option<String>,
    pub epoch: u64,
    pub text: String,
    pub count: u32,
}

impl From<v1::WhyVolumeReply> for Why {
    fn from(r: v1::WhyVolumeReply) -> Self {
        let events = r.events.into_iter().map(|e| Event {
            at: rfc3339(e.at_unix_ms),
            host: e.host,
            kind: e.kind,
            who: present(e.who),
            epoch: e.epoch,
            text: e.text,
            count: e.count,
        });
        Self {
            volume: r.volume.map(Volume::from),
            headline: r.headline,
            proof: present(r.proof),
            resolves: present(r.resolves),
            command: present(r.command),
            events: events.collect(),
            missing: r.missing,
        }
    }
}

impl Tabular for Why {
    fn grid(&self) -> Grid {
        const EVENTS: &[Column] = &[
            text("time", "Time"),
            text("host", "Host"),
            text("what", "What"),
            text("who", "Who"),
            number("epoch", "Epoch"),
            number("count", "Count"),
            text("text", "Text"),
        ];
        let row = |e: &Event| {
            vec![
                Cell::maybe(e.at.as_deref()),
                Cell::text(&e.host),
                Cell::text(&e.kind),
                Cell::maybe(e.who.as_deref()),
                Cell::Count(e.epoch),
                Cell::Count(e.count.into()),
                Cell::text(&e.text),
            ]
        };
        Grid::new(EVENTS, self.events.iter().map(row))
    }
}
