#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_transport::fuzzing::connections;

fuzz_target!(|bytes: &[u8]| connections(bytes));
