//! The package for ESXi: a VIB and an offline bundle, written and read.
//!
//! A VIB is an `ar` archive of a descriptor, a signature and payloads; an offline bundle is a zip file that holds VIBs and
//! the metadata by which vSphere Lifecycle Manager finds them. Nothing here runs on ESXi: `cargo xtask vib` builds with
//! it, and the package test reads with it what was built.
//!
//! **The same input gives the same bytes.** No clock, no machine and no order of a folder goes in: the release date is an
//! input, entries are sorted, owners and times are fixed, compression is one implementation in Rust.
//!
//! **Reading is for bytes of others.** Every size is bounded before memory is taken for it, nothing panics on any bytes
//! (`fuzzing`), every checksum is compared. Whether a package that can be read would also install is another question;
//! [`rules`] answers it, each answer with the rule's name.
//!
//! | module | concept |
//! |---|---|
//! | [`ar`], [`tar`], [`gzip`], [`zip`] | containers, to the byte |
//! | [`digest`] | checksums as the descriptor writes them |
//! | [`descriptor`] | what the package says about itself |
//! | [`vib`] | the package |
//! | [`bundle`] | the offline bundle around it, with component metadata |
//! | [`payload`] | which files we ship, and where |
//! | [`elf`] | whether a program starts without loader and libraries |
//! | [`rules`] | what lets a package install without force |
//!
//! What it does not do: sign. A signature is made elsewhere, over the descriptor, and given to [`vib::build`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ar;
pub mod bundle;
pub mod descriptor;
pub mod digest;
pub mod elf;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gzip;
pub mod payload;
pub mod rules;
pub mod tar;
pub mod vib;
mod xml;
pub mod zip;

pub use error::{BuildError, ReadError};
