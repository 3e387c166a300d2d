#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_esx_vib::fuzzing::packages;

fuzz_target!(|bytes: &[u8]| packages(bytes));
