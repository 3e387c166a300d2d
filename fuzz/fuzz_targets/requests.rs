#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_api::fuzzing::requests;

fuzz_target!(|bytes: &[u8]| requests(bytes));
