#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_vim::fuzzing::soap_answers;

fuzz_target!(|bytes: &[u8]| soap_answers(bytes));
