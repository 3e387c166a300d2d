//! The engine over a simulated world. Each test is a sentence about behaviour; time is paused, so waits cost nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

mod access;
mod access_groups;
mod access_scene;
mod admin_volume;
mod adoption;
mod attachments;
mod audit;
mod claims;
mod clones;
mod config;
mod config_away;
mod config_import;
mod config_random;
mod consistency;
mod crashes;
mod doctor;
mod doctor_hosts;
mod doctor_kinds;
mod edges;
mod first_use;
mod fsck;
mod fsck_bytes;
mod fsck_scene;
mod hosts;
mod hosts_crashes;
mod hosts_random;
mod hosts_seen;
mod left_behind;
mod listings;
mod mistakes;
mod moving;
mod moving_vms;
mod original_defects;
mod policies;
mod quota;
mod quota_waits;
mod random;
mod reviewed;
mod stress;
mod support;
mod takeover;
mod two_hosts;
mod volumes;
mod why;
