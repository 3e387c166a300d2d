#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_domain::fuzzing::addresses;

fuzz_target!(|bytes: &[u8]| addresses(bytes));
