#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_domain::fuzzing::policies;

fuzz_target!(|bytes: &[u8]| policies(bytes));
