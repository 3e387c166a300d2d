//! The client against a fake of hostd that breaks where a test says.

mod connections;
mod requests;
mod rig;
mod sessions;
mod tasks;
mod watching;
