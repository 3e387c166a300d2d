#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_blockdev::fuzzing::mountinfo;

fuzz_target!(|bytes: &[u8]| mountinfo(bytes));
