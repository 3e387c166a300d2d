//! One fault of a guest at a time, each directed at the moment where it hurts.

mod journal;
mod links;
mod machine;
mod scene;
mod sharing;
