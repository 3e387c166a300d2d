#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_engine::fuzzing::originals;

fuzz_target!(|bytes: &[u8]| originals(bytes));
