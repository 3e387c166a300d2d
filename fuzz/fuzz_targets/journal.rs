#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_plugin::fuzzing::journal;

fuzz_target!(|bytes: &[u8]| journal(bytes));
