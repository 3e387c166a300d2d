//! External programs: the same door the test side of the house uses.

pub(crate) use vdvs_testkit::process::*;
