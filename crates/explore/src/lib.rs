//! The exhaustive search: small configurations, every order of events, over the code that ships.
//!
//! The simulation (`vdvs-sim`) draws long schedules at random; this crate takes short ones and leaves none out.
//!
//! | module | what is searched |
//! |---|---|
//! | [`swap_case`] | writers of one shared file: the source of the engine's `swap` |
//! | [`owner`] | two hosts, two VMs, one volume: two whole engines, from a guest's message to its answer |
//! | [`search`] | the search itself, which knows neither |
//!
//! **What runs.** In both nothing is modelled of what is judged: `swap` runs from its own source file, and ownership runs
//! [`vdvs_engine::Engine`] as the agent does, with its locks, waits, recovery and time-outs. Modelled is the world around it: the
//! datastore's files, the hypervisor's lock and device lists, guests that ask, events that happen (`owner::world`).
//!
//! **A step** is one call of the engine to one of its ports, or one message of a guest, an agent that dies, an event of
//! the world, or the passing of time. Between two steps everything that can run has run. Calls whose answer is the same
//! at every moment of a case (the datastore's mark, the configuration, the claim on the name) are answered at once:
//! they commute with every other step, so no order is lost. A case that changes such a thing after all is reported as
//! broken.
//!
//! **A promise that breaks** is told with the schedule that leads there.
// As a crate of tests it has none of its own, and the source that is compiled here once more brings its tests along,
// which run where they live.
#![cfg(not(test))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cases;
pub mod owner;
mod ports;
pub mod search;
pub mod swap_case;
