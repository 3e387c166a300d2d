#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_transport::fuzzing::agent_addresses;

fuzz_target!(|bytes: &[u8]| agent_addresses(bytes));
