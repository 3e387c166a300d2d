#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_host_lab::fuzzing::labhv_lines;

fuzz_target!(|bytes: &[u8]| labhv_lines(bytes));
