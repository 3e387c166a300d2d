#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_engine::fuzzing::file_names;

fuzz_target!(|bytes: &[u8]| file_names(bytes));
