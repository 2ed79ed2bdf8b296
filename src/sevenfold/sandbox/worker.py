"""The program inside the sandbox: runs sources that it is sent, and says what their calls returned.

Started by `sandbox` with `python -I -S`, as a file of its own: it imports nothing of this project. Before the first source it gives
up everything but its memory, its two pipes and its clock: afterwards the kernel refuses to open, connect, fork, execute and signal
(seccomp, default: no), and memory and processor time are bounded. Requests and replies are JSON, one a line.
"""

import bisect
import collections
import contextlib
import functools
import heapq
import io
import itertools
import json
import math
import os
import re
import resource
import signal
import string
import sys

# What sources may import; loaded now, because nothing can be opened later.
LIBRARY = (bisect, collections, functools, heapq, itertools, math, re, string)
SYSCALLS = (
    "read", "write", "close", "lseek", "brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "exit", "exit_group",
    "rt_sigreturn", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "setitimer", "clock_gettime", "gettimeofday", "getrandom",
    "sched_yield", "restart_syscall",
)  # fmt: skip
MAX_REPR = 2000


class OutOfTime(BaseException):
    """Raised in a source that used up its processor time; not an Exception, so that `except Exception` does not eat it."""


def confine(memory: int, cpu: int) -> None:
    """Give up what is not needed, for good; an exception when the kernel cannot promise it."""
    import pyseccomp

    # This interpreter's allocator takes address space in pieces; the rest of the room is for sources.
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(1))
    for name in SYSCALLS:
        # A name that this processor has not is no way in.
        with contextlib.suppress(OSError, RuntimeError):
            rules.add_rule(pyseccomp.ALLOW, name)
    rules.load()
    # Closed on purpose: the proof that the filter holds, before anything is run.
    for attempt in (lambda: os.open("/", os.O_RDONLY), os.fork):
        try:
            attempt()
        except OSError:
            continue
        raise RuntimeError("the filter of system calls does not hold")


def out_of_time(signum, frame):  # noqa: ARG001  (the signature of a handler)
    """End the source that is running."""
    raise OutOfTime


def run(source, entry, inputs, seconds):
    """What each call gave: its repr, or `!` and the name of what was raised."""
    names = {"__name__": "sample"}
    # Armed inside the block that catches, so that the alarm cannot ring outside of it.
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        exec(compile(source, "sample", "exec"), names)
        results = []
        for text in inputs:
            try:
                shown = repr(names[entry](*eval(text, {})))
            except Exception as error:
                shown = "!" + type(error).__name__
            results.append(shown if len(shown) <= MAX_REPR else "!TooLong")
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return ["!" + type(error).__name__] * len(inputs)
    return results


def main():
    """Serve requests until the other side closes."""
    memory, cpu, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    signal.signal(signal.SIGVTALRM, out_of_time)
    hash(json.dumps({"": [1.0, "a"]}))
    try:
        confine(memory, cpu)
    except BaseException as error:
        replies.write(json.dumps({"refused": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        replies.flush()
        return
    replies.write(b'{"ready": true}\n')
    replies.flush()
    for line in requests:
        job = json.loads(line)
        sys.stdout = sys.stderr = io.StringIO()
        found = {
            key: run(source, job["entry"], job["inputs"], seconds) for key, source in job["sources"].items()
        }
        replies.write(json.dumps(found).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
