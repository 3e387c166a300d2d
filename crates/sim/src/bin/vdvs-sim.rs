//! Runs schedules of the simulation from the command line.
#![forbid(unsafe_code)]

fn main() {}
