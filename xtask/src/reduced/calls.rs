//! Names and numbers of system calls, and which of them a hypervisor's kernel is taken to lack.

use anyhow::{Context, Result};

macro_rules! names {
    ($($name:ident $number:ident),+ $(,)?) => {
        /// Every call that is named here or in the list.
        const NAMES: &[(&str, i64)] = &[$((stringify!($name), libc::$number)),+];
    };
}

names! {
    accept SYS_accept,
    accept4 SYS_accept4,
    access SYS_access,
    alarm SYS_alarm,
    arch_prctl SYS_arch_prctl,
    bind SYS_bind,
    bpf SYS_bpf,
    brk SYS_brk,
    chdir SYS_chdir,
    chmod SYS_chmod,
    chown SYS_chown,
    clock_getres SYS_clock_getres,
    clock_gettime SYS_clock_gettime,
    clock_nanosleep SYS_clock_nanosleep,
    clone SYS_clone,
    clone3 SYS_clone3,
    close SYS_close,
    close_range SYS_close_range,
    connect SYS_connect,
    copy_file_range SYS_copy_file_range,
    creat SYS_creat,
    dup SYS_dup,
    dup2 SYS_dup2,
    dup3 SYS_dup3,
    epoll_create SYS_epoll_create,
    epoll_create1 SYS_epoll_create1,
    epoll_ctl SYS_epoll_ctl,
    epoll_pwait SYS_epoll_pwait,
    epoll_pwait2 SYS_epoll_pwait2,
    epoll_wait SYS_epoll_wait,
    eventfd SYS_eventfd,
    eventfd2 SYS_eventfd2,
    execve SYS_execve,
    execveat SYS_execveat,
    exit SYS_exit,
    exit_group SYS_exit_group,
    faccessat SYS_faccessat,
    faccessat2 SYS_faccessat2,
    fadvise64 SYS_fadvise64,
    fallocate SYS_fallocate,
    fchdir SYS_fchdir,
    fchmod SYS_fchmod,
    fchmodat SYS_fchmodat,
    fchown SYS_fchown,
    fchownat SYS_fchownat,
    fcntl SYS_fcntl,
    fdatasync SYS_fdatasync,
    flock SYS_flock,
    fork SYS_fork,
    fstat SYS_fstat,
    fstatfs SYS_fstatfs,
    fsync SYS_fsync,
    ftruncate SYS_ftruncate,
    futex SYS_futex,
    futex_waitv SYS_futex_waitv,
    futimesat SYS_futimesat,
    get_robust_list SYS_get_robust_list,
    getcwd SYS_getcwd,
    getdents SYS_getdents,
    getdents64 SYS_getdents64,
    getegid SYS_getegid,
    geteuid SYS_geteuid,
    getgid SYS_getgid,
    getitimer SYS_getitimer,
    getpeername SYS_getpeername,
    getpgrp SYS_getpgrp,
    getpid SYS_getpid,
    getppid SYS_getppid,
    getpriority SYS_getpriority,
    getrandom SYS_getrandom,
    getrlimit SYS_getrlimit,
    getrusage SYS_getrusage,
    getsockname SYS_getsockname,
    getsockopt SYS_getsockopt,
    gettid SYS_gettid,
    gettimeofday SYS_gettimeofday,
    getuid SYS_getuid,
    getxattr SYS_getxattr,
    inotify_add_watch SYS_inotify_add_watch,
    inotify_init SYS_inotify_init,
    inotify_init1 SYS_inotify_init1,
    io_uring_enter SYS_io_uring_enter,
    io_uring_register SYS_io_uring_register,
    io_uring_setup SYS_io_uring_setup,
    ioctl SYS_ioctl,
    kcmp SYS_kcmp,
    kill SYS_kill,
    lchown SYS_lchown,
    link SYS_link,
    linkat SYS_linkat,
    listen SYS_listen,
    lseek SYS_lseek,
    lstat SYS_lstat,
    madvise SYS_madvise,
    membarrier SYS_membarrier,
    memfd_create SYS_memfd_create,
    mincore SYS_mincore,
    mkdir SYS_mkdir,
    mkdirat SYS_mkdirat,
    mknod SYS_mknod,
    mknodat SYS_mknodat,
    mlock SYS_mlock,
    mlock2 SYS_mlock2,
    mmap SYS_mmap,
    mount SYS_mount,
    mprotect SYS_mprotect,
    mremap SYS_mremap,
    msync SYS_msync,
    munlock SYS_munlock,
    munmap SYS_munmap,
    nanosleep SYS_nanosleep,
    newfstatat SYS_newfstatat,
    open SYS_open,
    openat SYS_openat,
    openat2 SYS_openat2,
    pause SYS_pause,
    personality SYS_personality,
    pidfd_getfd SYS_pidfd_getfd,
    pidfd_open SYS_pidfd_open,
    pidfd_send_signal SYS_pidfd_send_signal,
    pipe SYS_pipe,
    pipe2 SYS_pipe2,
    poll SYS_poll,
    ppoll SYS_ppoll,
    prctl SYS_prctl,
    pread64 SYS_pread64,
    preadv SYS_preadv,
    preadv2 SYS_preadv2,
    prlimit64 SYS_prlimit64,
    pselect6 SYS_pselect6,
    ptrace SYS_ptrace,
    pwrite64 SYS_pwrite64,
    pwritev SYS_pwritev,
    pwritev2 SYS_pwritev2,
    read SYS_read,
    readahead SYS_readahead,
    readlink SYS_readlink,
    readlinkat SYS_readlinkat,
    readv SYS_readv,
    recvfrom SYS_recvfrom,
    recvmmsg SYS_recvmmsg,
    recvmsg SYS_recvmsg,
    rename SYS_rename,
    renameat SYS_renameat,
    renameat2 SYS_renameat2,
    rmdir SYS_rmdir,
    rseq SYS_rseq,
    rt_sigaction SYS_rt_sigaction,
    rt_sigpending SYS_rt_sigpending,
    rt_sigprocmask SYS_rt_sigprocmask,
    rt_sigreturn SYS_rt_sigreturn,
    rt_sigsuspend SYS_rt_sigsuspend,
    rt_sigtimedwait SYS_rt_sigtimedwait,
    sched_getaffinity SYS_sched_getaffinity,
    sched_yield SYS_sched_yield,
    seccomp SYS_seccomp,
    select SYS_select,
    sendfile SYS_sendfile,
    sendmmsg SYS_sendmmsg,
    sendmsg SYS_sendmsg,
    sendto SYS_sendto,
    set_robust_list SYS_set_robust_list,
    set_tid_address SYS_set_tid_address,
    setitimer SYS_setitimer,
    setns SYS_setns,
    setpriority SYS_setpriority,
    setrlimit SYS_setrlimit,
    setsid SYS_setsid,
    setsockopt SYS_setsockopt,
    setxattr SYS_setxattr,
    shutdown SYS_shutdown,
    sigaltstack SYS_sigaltstack,
    signalfd SYS_signalfd,
    signalfd4 SYS_signalfd4,
    socket SYS_socket,
    socketpair SYS_socketpair,
    splice SYS_splice,
    stat SYS_stat,
    statfs SYS_statfs,
    statx SYS_statx,
    symlink SYS_symlink,
    symlinkat SYS_symlinkat,
    sync SYS_sync,
    sync_file_range SYS_sync_file_range,
    syncfs SYS_syncfs,
    sysinfo SYS_sysinfo,
    tee SYS_tee,
    tgkill SYS_tgkill,
    time SYS_time,
    timer_create SYS_timer_create,
    timer_settime SYS_timer_settime,
    timerfd_create SYS_timerfd_create,
    timerfd_gettime SYS_timerfd_gettime,
    timerfd_settime SYS_timerfd_settime,
    tkill SYS_tkill,
    truncate SYS_truncate,
    umask SYS_umask,
    umount2 SYS_umount2,
    uname SYS_uname,
    unlink SYS_unlink,
    unlinkat SYS_unlinkat,
    unshare SYS_unshare,
    userfaultfd SYS_userfaultfd,
    utime SYS_utime,
    utimensat SYS_utimensat,
    utimes SYS_utimes,
    vfork SYS_vfork,
    vmsplice SYS_vmsplice,
    wait4 SYS_wait4,
    waitid SYS_waitid,
    write SYS_write,
    writev SYS_writev,
}

/// Younger than Linux 2.6.36, which is about where the interface ends.
const YOUNG: &[&str] = &[
    "clone3",
    "rseq",
    "statx",
    "getrandom",
    "prlimit64",
    "membarrier",
    "epoll_pwait",
    "epoll_pwait2",
    "openat2",
    "faccessat2",
    "close_range",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "copy_file_range",
    "renameat2",
    "memfd_create",
    "execveat",
    "preadv2",
    "pwritev2",
    "userfaultfd",
    "bpf",
    "mlock2",
    "syncfs",
    "futex_waitv",
];

/// Calls with flags, which the C library does without.
const WITH_FLAGS: &[&str] = &["accept4", "pipe2", "dup3", "recvmmsg", "sendmmsg"];

/// Everything about waiting but `poll`: one of them is known to be missing, and another refuses what the runtime asks.
const WAITING: &[&str] = &[
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd",
    "signalfd4",
];

/// Reported missing on one release or another: calls relative to a folder, advice about memory, making processes.
const REPORTED: &[&str] = &[
    "openat",
    "mkdirat",
    "unlinkat",
    "renameat",
    "newfstatat",
    "fchmodat",
    "fchownat",
    "readlinkat",
    "symlinkat",
    "faccessat",
    "utimensat",
    "futimesat",
    "mknodat",
    "madvise",
    "mincore",
    "fork",
    "vfork",
    "inotify_init",
    "inotify_init1",
    "inotify_add_watch",
    "fallocate",
];

/// The numbers of all calls that are taken to be missing.
pub(super) fn absent() -> Vec<u32> {
    let all = [YOUNG, WITH_FLAGS, WAITING, REPORTED];
    all.concat().into_iter().filter_map(number).collect()
}

fn number(name: &str) -> Option<u32> {
    let (_, number) = NAMES.iter().find(|(known, _)| *known == name)?;
    u32::try_from(*number).ok()
}

/// The name of a call; none: nobody has named it here.
pub(super) fn name(number: i64) -> Option<&'static str> {
    let (name, _) = NAMES.iter().find(|(_, known)| *known == number)?;
    Some(name)
}

/// The numbers of a list: a name a line, '#' begins a remark.
pub(super) fn numbers(list: &str) -> Result<Vec<u32>> {
    list.lines()
        .filter_map(|line| line.split('#').next().map(str::trim))
        .filter(|name| !name.is_empty())
        .map(|name| number(name).with_context(|| format!("no call '{name}' is known")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ALLOWED;
    use super::*;

    #[test]
    fn every_call_that_is_missing_has_a_number_and_none_is_on_the_list() {
        let named = YOUNG.len() + WITH_FLAGS.len() + WAITING.len() + REPORTED.len();
        let absent = absent();
        assert_eq!(absent.len(), named, "a name without a number");
        let allowed = numbers(ALLOWED).unwrap();
        assert!(allowed.len() > 30);
        assert!(allowed.iter().all(|call| !absent.contains(call)));
    }

    #[test]
    fn a_list_with_a_name_nobody_knows_is_refused() {
        assert!(numbers("read # files\n\n# nothing\n").is_ok());
        assert!(numbers("raed\n").unwrap_err().to_string().contains("raed"));
        assert_eq!(name(libc::SYS_read), Some("read"));
        assert_eq!(name(-1), None);
    }
}
