#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_api::fuzzing::replies;

fuzz_target!(|bytes: &[u8]| replies(bytes));
