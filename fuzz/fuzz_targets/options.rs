#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_domain::fuzzing::options;

fuzz_target!(|bytes: &[u8]| options(bytes));
