//! The filter's program.

use std::env::consts::ARCH;

/// One instruction of the kernel's filter machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where a call's description has its number, its platform, and the lower halves of its first two arguments.
const NUMBER: u32 = 0;
const PLATFORM: u32 = 4;
const FIRST: u32 = 16;
const SECOND: u32 = 24;

/// Verdicts.
pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const ASK: u32 = 0x7fc0_0000;
pub(super) const ABSENT: u32 = 0x0005_0000 | 38;
const KILL: u32 = 0x8000_0000;

/// `AUDIT_ARCH_*` of the platforms a hypervisor has.
fn platform() -> u32 {
    match ARCH {
        "aarch64" => 0xC000_00B7,
        _ => 0xC000_003E,
    }
}

/// `CLONE_THREAD`: without it a call makes a process.
const THREAD: u32 = 0x1_0000;
/// A request that a kernel is known to lack though it has the call.
const FIOCLEX: u32 = 0x5451;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Op {
    Op { code, jt, jf, k }
}

/// A filter that answers *not implemented* for `absent`, lets `allowed` through and asks about the rest.
pub(super) fn program(absent: &[u32], allowed: &[u32]) -> Vec<Op> {
    let clone = u32::try_from(libc::SYS_clone).unwrap_or(u32::MAX);
    let ioctl = u32::try_from(libc::SYS_ioctl).unwrap_or(u32::MAX);
    let mut ops = vec![
        op(LOAD, 0, 0, PLATFORM),
        op(EQUAL, 1, 0, platform()),
        op(RETURN, 0, 0, KILL),
        op(LOAD, 0, 0, NUMBER),
        // Threads, and no processes.
        op(EQUAL, 0, 4, clone),
        op(LOAD, 0, 0, FIRST),
        op(BITS, 1, 0, THREAD),
        op(RETURN, 0, 0, ABSENT),
        op(RETURN, 0, 0, ALLOW),
        // Every request but one.
        op(EQUAL, 0, 4, ioctl),
        op(LOAD, 0, 0, SECOND),
        op(EQUAL, 0, 1, FIOCLEX),
        op(RETURN, 0, 0, ABSENT),
        op(RETURN, 0, 0, ALLOW),
    ];
    let mut each = |numbers: &[u32], verdict| {
        for number in numbers {
            ops.push(op(EQUAL, 0, 1, *number));
            ops.push(op(RETURN, 0, 0, verdict));
        }
    };
    each(absent, ABSENT);
    each(allowed, ALLOW);
    ops.push(op(RETURN, 0, 0, ASK));
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's machine, as far as this program uses it.
    fn verdict(ops: &[Op], number: i64, arguments: [u32; 2]) -> u32 {
        let word = |at| match at {
            NUMBER => u32::try_from(number).unwrap(),
            PLATFORM => platform(),
            FIRST => arguments[0],
            SECOND => arguments[1],
            other => panic!("nothing lies at {other}"),
        };
        let (mut at, mut held) = (0, 0);
        loop {
            let op = ops[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { op.jt } else { op.jf });
            match op.code {
                LOAD => held = word(op.k),
                EQUAL => at += jump(held == op.k),
                BITS => at += jump(held & op.k != 0),
                RETURN => return op.k,
                other => panic!("no instruction {other}"),
            }
        }
    }

    #[test]
    fn what_is_absent_is_not_implemented_what_is_listed_passes_and_the_rest_is_asked_about() {
        let of = |n: i64| u32::try_from(n).unwrap();
        let ops = program(&[of(libc::SYS_openat)], &[of(libc::SYS_read)]);
        assert_eq!(verdict(&ops, libc::SYS_openat, [0, 0]), ABSENT);
        assert_eq!(verdict(&ops, libc::SYS_read, [0, 0]), ALLOW);
        assert_eq!(verdict(&ops, libc::SYS_bpf, [0, 0]), ASK);
    }

    #[test]
    fn threads_are_made_and_processes_are_not() {
        let ops = program(&[], &[]);
        assert_eq!(verdict(&ops, libc::SYS_clone, [0x3d_0f00, 0]), ALLOW);
        assert_eq!(verdict(&ops, libc::SYS_clone, [0x4111, 0]), ABSENT);
        assert_eq!(verdict(&ops, libc::SYS_ioctl, [3, 0x5421]), ALLOW);
        assert_eq!(verdict(&ops, libc::SYS_ioctl, [3, FIOCLEX]), ABSENT);
    }
}
