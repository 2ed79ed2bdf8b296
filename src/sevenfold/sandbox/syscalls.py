"""The system calls of a confined program: a table, and the kernel's filter that is made from it.

A call that the table does not name fails with ENOSYS: sockets of every family, ptrace, io_uring, keys,
namespaces, mounts, kernel modules, performance events, the memory and limits of other processes. Only
a compiler may start processes. Every program may start threads.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from functools import cache

from sevenfold.core.errors import SevenfoldError

FILES = """
read write readv writev pread64 pwrite64 preadv pwritev open openat close close_range lseek fstat
stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64
getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat
symlink symlinkat ftruncate truncate fallocate fsync fdatasync flock fcntl dup dup2 dup3 pipe pipe2
utimensat umask chmod fchmod fchmodat copy_file_range sendfile statfs fstatfs fadvise64 mknod
mknodat
"""
MEMORY = "mmap munmap mremap mprotect madvise brk mincore msync membarrier"
THREADS = """
set_tid_address set_robust_list get_robust_list futex rseq exit exit_group gettid rt_sigaction
rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack sched_yield
sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
getpriority getcpu restart_syscall pause execve wait4 waitid
"""
TIME = """
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times setitimer getitimer alarm
poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd eventfd2
"""
FACTS = """
uname getpid getppid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getpgid
getsid getrlimit getrusage sysinfo getrandom arch_prctl capget
"""
ALLOWED = tuple(f"{FILES} {MEMORY} {THREADS} {TIME} {FACTS}".split())
# A compiler consists of several processes.
ALLOWED_TO_COMPILE = ("fork", "vfork")
# More calls of the process that starts samples (`fork_server`).
ALLOWED_TO_SERVE = (
    "recvmsg", "recvfrom", "sendto", "getsockopt", "getsockname", "kill", "pidfd_open",
)  # fmt: skip
CLONE_THREAD = 0x10000
# Flags that are refused: new namespaces, and CLONE_PTRACE.
CLONE_REFUSED = 0x7E020000 | 0x2000 | 0x80
# (call, argument, values): the call is allowed with these values of one argument.
ALLOWED_WITH = (
    # TCGETS, FIONREAD, TIOCGWINSZ, FIONBIO, FIOCLEX: questions about a descriptor.
    ("ioctl", 1, (0x5401, 0x541B, 0x5413, 0x5421, 0x5451)),
    # PR_SET_NAME, PR_GET_NAME, and PR_SET_SECCOMP, which can only remove rights.
    ("prctl", 0, (15, 16, 22)),
    # Process 0 is the caller itself.
    ("prlimit64", 0, (0,)),
)
SIGKILL = 9


class FilterError(SevenfoldError):
    """The filter of system calls cannot be made."""

    exit_code = 4


@cache
def filter_program(*, may_fork: bool, more: tuple[str, ...] = (), may_signal: bool = True) -> bytes:
    """Return the filter as a BPF program for the processor of this machine.

    Args:
        may_fork: whether the program may start processes.
        more: calls that are allowed besides the table.
        may_signal: whether it may send signals other than SIGKILL to processes of its tree. A child
            of the fork server may not, because its parent is in the tree.

    Raises:
        FilterError: the library is missing.
    """
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise FilterError(
            f"nothing is executed without a filter of system calls: {error}",
            where="sandbox",
            remedy="pip install 'sevenfold[eval]' on Linux, and the Debian package libseccomp2",
        ) from error
    # Compilers and interpreters have a fallback for a call that an older kernel lacks.
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(errno.ENOSYS))
    for name in ALLOWED + more + (ALLOWED_TO_COMPILE if may_fork else ()):
        # Some calls do not exist on every processor. What does not exist need not be allowed.
        with contextlib.suppress(OSError, RuntimeError):
            rules.add_rule(pyseccomp.ALLOW, name)
    for name, argument, values in ALLOWED_WITH:
        for value in values:
            rules.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(argument, pyseccomp.EQ, value))
    # No program may send SIGKILL, so none can look like one that the kernel killed for its memory.
    if may_signal:
        rules.add_rule(pyseccomp.ALLOW, "tgkill", pyseccomp.Arg(2, pyseccomp.NE, SIGKILL))
    # The flags of clone3 are in memory, where a filter cannot see them. So clone3 does not exist, and
    # the C library uses clone.
    mask = CLONE_REFUSED | (0 if may_fork else CLONE_THREAD)
    expected = 0 if may_fork else CLONE_THREAD
    rules.add_rule(pyseccomp.ALLOW, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, mask, expected))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
