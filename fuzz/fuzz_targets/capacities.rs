#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_domain::fuzzing::capacities;

fuzz_target!(|bytes: &[u8]| capacities(bytes));
