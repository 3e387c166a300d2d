#![no_main]

use libfuzzer_sys::fuzz_target;
use vdvs_blockdev::fuzzing::disks;

fuzz_target!(|bytes: &[u8]| disks(bytes));
