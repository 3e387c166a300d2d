//! Which system calls the kernel has, asked without doing anything: each is made with arguments that no call takes, so
//! one that is there refuses them, and one that is not says so.

use libc::{c_long, syscall};
use nix::errno::Errno;

/// A call and arguments that do nothing: no descriptor, no memory, no flags.
struct Asked {
    name: &'static str,
    number: c_long,
    first: c_long,
    second: c_long,
}

const fn asked(name: &'static str, number: c_long, first: c_long, second: c_long) -> Asked {
    Asked {
        name,
        number,
        first,
        second,
    }
}

/// No descriptor; as a number of flags, all of them, which no call has.
const NONE: c_long = -1;

/// What is asked for. Calls that existed with the first kernels whose interface ESXi has are left out.
const CALLS: &[Asked] = &[
    asked("accept4", libc::SYS_accept4, NONE, 0),
    asked("clone3", libc::SYS_clone3, 0, 0),
    asked("copy_file_range", libc::SYS_copy_file_range, NONE, 0),
    asked("dup3", libc::SYS_dup3, NONE, NONE),
    asked("epoll_create1", libc::SYS_epoll_create1, NONE, 0),
    asked("epoll_pwait", libc::SYS_epoll_pwait, NONE, 0),
    asked("eventfd2", libc::SYS_eventfd2, 0, NONE),
    asked("fallocate", libc::SYS_fallocate, NONE, 0),
    asked("flock", libc::SYS_flock, NONE, 0),
    asked("getrandom", libc::SYS_getrandom, 0, 0),
    asked("inotify_init1", libc::SYS_inotify_init1, NONE, 0),
    asked("io_uring_setup", libc::SYS_io_uring_setup, 0, 0),
    asked("madvise", libc::SYS_madvise, 0, 0),
    asked("membarrier", libc::SYS_membarrier, NONE, 0),
    asked("memfd_create", libc::SYS_memfd_create, 0, NONE),
    asked("newfstatat", libc::SYS_newfstatat, NONE, 0),
    asked("openat", libc::SYS_openat, NONE, 0),
    asked("pipe2", libc::SYS_pipe2, 0, NONE),
    asked("ppoll", libc::SYS_ppoll, 0, NONE),
    asked("prlimit64", libc::SYS_prlimit64, NONE, NONE),
    asked("renameat2", libc::SYS_renameat2, NONE, 0),
    asked("sched_getaffinity", libc::SYS_sched_getaffinity, 0, 0),
    asked("signalfd4", libc::SYS_signalfd4, NONE, 0),
    asked("statx", libc::SYS_statx, NONE, 0),
    asked("timerfd_create", libc::SYS_timerfd_create, NONE, NONE),
    asked("unlinkat", libc::SYS_unlinkat, NONE, 0),
    asked("utimensat", libc::SYS_utimensat, NONE, 0),
];

/// Every call that is asked for, in the order of their names, with what came: [`Errno::ENOSYS`] where the kernel has it not.
#[must_use]
pub fn calls() -> Vec<(&'static str, Result<(), Errno>)> {
    CALLS.iter().map(|asked| (asked.name, ask(asked))).collect()
}

fn ask(asked: &Asked) -> Result<(), Errno> {
    let zero: c_long = 0;
    // SAFETY: no call of the list reads or writes memory with a null address, and none has a descriptor, a flag or a
    // length to do anything with; what would be made (a descriptor) is refused for its flags.
    let result = unsafe {
        syscall(
            asked.number,
            asked.first,
            asked.second,
            zero,
            zero,
            zero,
            zero,
        )
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn asking_makes_nothing_and_finds_what_this_kernel_has() {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let calls = calls();
        assert_eq!(open(), before, "no descriptor was made");
        let of = |name| calls.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(of("epoll_pwait"), Err(Errno::EBADF));
        assert_eq!(of("openat"), Err(Errno::EFAULT));
        assert_eq!(of("eventfd2"), Err(Errno::EINVAL));
        assert!(calls.is_sorted_by_key(|(name, _)| *name));
    }
}
