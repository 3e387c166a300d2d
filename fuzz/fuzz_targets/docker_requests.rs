#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_plugin::fuzzing::docker_requests;

fuzz_target!(|bytes: &[u8]| docker_requests(bytes));
