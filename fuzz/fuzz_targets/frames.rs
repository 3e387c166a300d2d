#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_transport::fuzzing::frames;

fuzz_target!(|bytes: &[u8]| frames(bytes));
