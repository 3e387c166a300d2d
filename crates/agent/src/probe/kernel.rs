//! Which system calls there are.

use nix::errno::Errno;
use vdvs_transport::kernel;

use super::{Answer, Finding};

pub(super) fn calls() -> Vec<Finding> {
    let finding = |(name, came): (&str, Result<(), Errno>)| {
        let (answer, detail) = match came {
            Err(Errno::ENOSYS) => (Answer::No, "the kernel has it not".to_owned()),
            // Some system calls are there and forbidden, which is as good as not.
            Err(why @ (Errno::EPERM | Errno::EACCES)) => (Answer::No, format!("forbidden: {why}")),
            Err(why) => (Answer::Yes, format!("refused what nobody means: {why}")),
            Ok(()) => (Answer::Yes, String::new()),
        };
        Finding::new(5, format!("call {name}"), answer, detail)
    };
    kernel::calls().into_iter().map(finding).collect()
}
