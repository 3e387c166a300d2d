#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_engine::fuzzing::slots;

fuzz_target!(|bytes: &[u8]| slots(bytes));
