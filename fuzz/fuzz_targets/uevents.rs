#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_blockdev::fuzzing::uevents;

fuzz_target!(|bytes: &[u8]| uevents(bytes));
