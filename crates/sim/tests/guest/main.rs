//! One fault of a guest at a time, each directed at the moment where it hurts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

mod journal;
mod links;
mod machine;
mod scene;
mod sharing;
