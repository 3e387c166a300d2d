#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_vmdk::fuzzing::descriptors;

fuzz_target!(|bytes: &[u8]| descriptors(bytes));
