"""What a hostile sample may try, as data.

An attempt is contained when it raises, or gives a false value.
"""

from __future__ import annotations

import platform

# System calls by number, on x86-64; `call(n, ...)` gives what the kernel said, and raises OSError.
_X86 = {
    "ptrace": "call(101, 0, 0, 0, 0)",
    "ptrace_attach_1": "call(101, 16, 1, 0, 0)",
    "io_uring_setup": "call(425, 8, buffer)",
    "io_uring_enter": "call(426, 0, 0, 0, 0, 0)",
    "io_uring_register": "call(427, 0, 0, 0, 0)",
    "keyctl": "call(250, 0, -3, 0)",
    "add_key": "call(248, b'user', b'k', b'v', 1, -3)",
    "request_key": "call(249, b'user', b'k', 0, -3)",
    "unshare_user": "call(272, 0x10000000)",
    "unshare_net": "call(272, 0x40000000)",
    "unshare_mount": "call(272, 0x20000)",
    "setns": "call(308, 0, 0)",
    "clone_new_user": "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "clone_new_pid": "call(56, 0x20000000 | 17, 0, 0, 0, 0)",
    "clone_process": "call(56, 17, 0, 0, 0, 0)",
    "clone3": "call(435, buffer, 88)",
    "fork": "call(57)",
    "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "umount": "call(166, b'/tmp', 2)",
    "pivot_root": "call(155, b'/tmp', b'/tmp')",
    "chroot": "call(161, b'/tmp')",
    "open_tree": "call(428, -100, b'/', 1)",
    "move_mount": "call(429, 0, b'', 0, b'', 0)",
    "fsopen": "call(430, b'tmpfs', 0)",
    "bpf": "call(321, 0, buffer, 64)",
    "perf_event_open": "call(298, buffer, 0, -1, -1, 0)",
    "userfaultfd": "call(323, 0)",
    "process_vm_readv": "call(310, 1, 0, 0, 0, 0, 0)",
    "process_vm_writev": "call(311, 1, 0, 0, 0, 0, 0)",
    "kexec_load": "call(246, 0, 0, 0, 0)",
    "init_module": "call(175, 0, 0, b'')",
    "finit_module": "call(313, 0, b'', 0)",
    "delete_module": "call(176, b'x', 0)",
    "reboot": "call(169, 0xfee1dead, 672274793, 0x1234567, 0)",
    "swapon": "call(167, b'/tmp/x', 0)",
    "settimeofday": "call(164, buffer, 0)",
    "clock_settime": "call(227, 0, buffer)",
    "adjtimex": "call(159, buffer)",
    "sethostname": "call(170, b'x', 1)",
    "setdomainname": "call(171, b'x', 1)",
    "acct": "call(163, b'/tmp/a')",
    "quotactl": "call(179, 0, 0, 0, 0)",
    "name_to_handle_at": "call(303, -100, b'/', buffer, buffer, 0)",
    "open_by_handle_at": "call(304, 0, buffer, 0)",
    "kcmp": "call(312, 1, 1, 0, 0, 0)",
    "pidfd_open": "call(434, 1, 0)",
    "pidfd_getfd": "call(438, 0, 0, 0)",
    "pidfd_send_signal": "call(424, 0, 9, 0, 0)",
    "kill_all": "call(62, -1, 9)",
    "kill_1": "call(62, 1, 9)",
    "tkill": "call(200, 1, 9)",
    "tgkill_9": "call(234, __import__('os').getpid(), __import__('os').getpid(), 9)",
    "rt_sigqueueinfo": "call(129, 1, 9, buffer)",
    "prlimit_parent": "call(302, 1, 7, buffer, 0)",
    "setrlimit": "call(160, 0, buffer)",
    "setuid": "call(105, 0)",
    "setgid": "call(106, 0)",
    "setgroups": "call(116, 1, buffer)",
    "setresuid": "call(117, 0, 0, 0)",
    "capset": "call(126, buffer, buffer)",
    "prctl_no_dumpable": "call(157, 4, 1, 0, 0, 0)",
    "prctl_subreaper": "call(157, 36, 1, 0, 0, 0)",
    "seccomp": "call(317, 0, 0, 0)",
    "setsid": "call(112)",
    "setpriority": "call(141, 0, 0, -20)",
    "sched_setaffinity": "call(203, 0, 8, buffer)",
    "sched_setscheduler": "call(144, 0, 1, buffer)",
    "ioctl_tiocsti": "call(16, 0, 0x5412, b'x')",
    "mlockall": "call(151, 3)",
    "memfd_create": "call(319, b'x', 0)",
    "memfd_secret": "call(447, 0)",
    "fanotify_init": "call(300, 0, 0)",
    "inotify_init": "call(253)",
    "signalfd": "call(289, -1, buffer, 8, 0)",
    "timer_create": "call(222, 0, 0, buffer)",
    "shmget": "call(29, 1234, 4096, 0o1666)",
    "semget": "call(64, 1234, 1, 0o1666)",
    "msgget": "call(68, 1234, 0o1666)",
    "mq_open": "call(240, b'q', 0o102, 0o666, 0)",
    "vmsplice": "call(278, 1, 0, 0, 0)",
    "splice": "call(275, 0, 0, 1, 0, 0, 0)",
    "lookup_dcookie": "call(212, 0, buffer, 8)",
    "iopl": "call(172, 3)",
    "ioperm": "call(173, 0, 1, 1)",
    "modify_ldt": "call(154, 0, buffer, 64)",
    "personality": "call(135, 0x0400000)",
    "landlock_create_ruleset": "call(444, 0, 0, 1)",
    "syslog": "call(103, 3, buffer, 64)",
    "vhangup": "call(153)",
}
_SOCKETS = {
    f"socket_family_{family}": f"__import__('socket').socket({family}, {kind})"
    for family, kind in (
        (1, 1),
        (2, 1),
        (2, 2),
        (10, 1),
        (16, 3),
        (17, 3),
        (40, 1),
        (38, 5),
        (29, 3),
        (44, 3),
        (21, 5),
    )
}
_FILES = {
    "read_etc_passwd": "open('/etc/passwd').read()",
    "read_etc_shadow": "open('/etc/shadow').read()",
    "list_root_home": "__import__('os').listdir('/' + 'root')",
    "list_home": "__import__('os').listdir('/' + 'home')",
    "list_proc": "__import__('os').listdir('/proc')",
    "read_proc_self": "open('/proc/self/maps').read()",
    "read_proc_parent_environment": "open('/proc/1/environ').read()",
    "list_sys": "__import__('os').listdir('/sys')",
    "list_var": "__import__('os').listdir('/var')",
    "list_run": "__import__('os').listdir('/run')",
    "read_memory": "open('/dev/mem', 'rb').read(1)",
    "open_terminal": "open('/dev/tty')",
    "write_usr": "open('/usr/x', 'w')",
    "write_root": "open('/x', 'w')",
    "write_box": "open('/box/x', 'w')",
    "write_own_source": "open('/box/main.py', 'a')",
    "write_dev": "open('/dev/x', 'w')",
    "write_etc": "open('/etc/x', 'w')",
    "delete_library": "__import__('os').remove('/usr/bin/env')",
    "chmod_library": "__import__('os').chmod('/usr/bin/env', 0o777)",
    "rename_usr": "__import__('os').rename('/usr', '/usr2')",
    "link_out": "(__import__('os').symlink('/' + 'root', '/tmp/out'), __import__('os').listdir('/tmp/out'))",
    "dot_dot": "__import__('os').path.exists('/box/../../../../' + 'root/.bashrc')",
    "hard_link_library": "__import__('os').link('/usr/bin/env', '/tmp/env')",
    "device_node": (
        "(__import__('os').mknod('/tmp/d', 0o60666, __import__('os').makedev(8, 0)), open('/tmp/d',"
        " 'rb').read(1))"
    ),
    "set_uid_file": "__import__('os').system('/usr/bin/su -c id') == 0",
    "inherited_descriptors": "[n for n in range(3, 64) if is_open(n)]",
    "environment": (
        "set(__import__('os').environ) - {'PATH', 'LC_ALL', 'HOME', 'TMPDIR', 'PWD', 'PYTHONHASHSEED',"
        " 'LC_CTYPE'}"
    ),
    "other_processes": "__import__('os').getppid() > 1",
    "subprocess": "__import__('subprocess').run(['/bin/true'])",
    "system": "__import__('os').system('/bin/true') == 0",
    "process_pool": "__import__('multiprocessing').Process(target=print).start()",
    "posix_spawn": "__import__('os').posix_spawn('/bin/true', ['true'], {})",
    "raise_own_limit": "__import__('resource').setrlimit(0, (10**6, 10**6))",
    "host_name": "__import__('os').uname().nodename != 'box'",
    "a_file_past_the_limit": "open('/tmp/big', 'wb').write(b'x' * (64 << 20)) > (32 << 20)",
}
PROBES = _FILES | _SOCKETS | (_X86 if platform.machine() == "x86_64" else {})

HEAD = """
import ctypes, os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
def call(*arguments):
    found = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if found < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return True
def is_open(n):
    try:
        os.fstat(n)
        return True
    except OSError:
        return False
escaped = []
def attempt(name, text):
    try:
        if eval(text):
            escaped.append(name)
    except BaseException:
        pass
"""


def program(names: list[str]) -> str:
    """A program that makes attempts and prints which of them succeeded."""
    tries = "".join(f"attempt({name!r}, {PROBES[name]!r})\n" for name in names)
    return HEAD + tries + "print('escaped:', escaped)\n"


# name -> (program, how its tree has to end); "exit" is any end of its own.
BOMBS = {
    "endless_loop": ("while True: pass", "processor time"),
    "ignored_signal": ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "processor time"),
    "native_loop": ("sum(range(10**12))", "processor time"),
    "threads_that_spin": (
        "import threading\ndef f():\n    while True: pass\n"
        "try:\n    for _ in range(500): threading.Thread(target=f).start()\nexcept RuntimeError: f()",
        "processor time",
    ),
    "endless_output": ("while True: print('x' * 65536)", "output"),
    "endless_errors": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "output"),
    "sleep": ("import time\ntime.sleep(10**6)", "idle"),
    "fifo": ("import os\nos.mkfifo('/tmp/f')\nopen('/tmp/f')", "idle"),
    "deadlock": ("import threading\nx = threading.Lock()\nx.acquire()\nx.acquire()", "idle"),
    "stopped": ("import signal\nsignal.raise_signal(signal.SIGSTOP)", "idle"),
    "memory": ("x = []\nwhile True: x.append(bytearray(1 << 24))", "exit"),
    "recursion": ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "any"),
    "disk": (
        "import os\nfor i in range(64):\n    with open(f'/tmp/{i}', 'wb') as f:\n"
        "        f.write(b'x' * (8 << 20))",
        "exit",
    ),
    "inodes": ("import os\ni = 0\nwhile True:\n    os.close(os.open(f'/tmp/{i}', os.O_CREAT))\n    i += 1",
        "processor time"),
    "descriptors": ("x = [open('/dev/null') for _ in range(10**6)]", "exit"),
    "fork": ("import os\nwhile True: os.fork()", "exit"),
    "exec_itself": ("import os\nos.execv('/opt/python/bin/python3' if os.path.exists('/opt/python') else "
        "'/usr/bin/python3', "
                    "['python3', '-I', '-S', '/box/main.py'])", "any"),
    "abort": ("import os\nos.abort()", "exit"),
    "another_instruction_set": ("import ctypes\nctypes.CDLL(None).syscall(0x40000000 | 39)", "exit"),
    "segmentation_fault": ("import ctypes\nctypes.string_at(0)", "exit"),
}  # fmt: skip

# What a sample may do to get a verdict that its values do not earn. The task is f(x) = x + 1.
FORGERIES = {
    "prints_passed": "print('passed')\nprint('ok')\ndef f(x): return 0",
    "exits_with_zero": "import os\ndef f(x): os._exit(0)",
    "exits_at_import": "import sys\nsys.exit(0)",
    "exit_at_import_hard": "import os\nos._exit(0)",
    "raises_system_exit": "def f(x): raise SystemExit(0)",
    "raises_keyboard_interrupt": "def f(x): raise KeyboardInterrupt",
    "patches_unittest": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(x): return 0"
    ),
    "patches_builtins": (
        "import builtins\nbuiltins.AssertionError = Warning\nbuiltins.all = lambda x: True\ndef f(x):"
        " return 0"
    ),
    "replaces_check": "def check(candidate): pass\ndef f(x): return 0",
    "replaces_check_in_main": "import __main__\n__main__.check = lambda c: None\ndef f(x): return 0",
    "equal_to_everything": (
        "class A:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return A()"
    ),
    "int_equal_to_everything": (
        "class A(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(x):"
        " return A(0)"
    ),
    "list_equal_to_everything": (
        "class A(list):\n    def __eq__(self, other): return True\ndef f(x): return A()"
    ),
    "string_equal_to_everything": (
        "class A(str):\n    def __eq__(self, other): return True\ndef f(x): return A('x')"
    ),
    "mock": "from unittest.mock import MagicMock, ANY\ndef f(x): return ANY",
    "forged_verdict_frame": (
        "import os, json, struct\ndata = json.dumps({'verdict': 'pass', 'reason': ''}).encode()\nfor n in"
        " range(64):\n    try: os.write(n, struct.pack('>I', len(data)) + data)\n    except OSError:"
        " pass\ndef f(x): return 0"
    ),
    "forged_frame_in_a_call": (
        "import os, json, struct\ndef f(x):\n    data = json.dumps({'verdict': 'pass', 'reason':"
        " ''}).encode()\n    for n in range(64):\n        try: os.write(n, struct.pack('>I', len(data)) +"
        " data)\n        except OSError: pass\n    return 0"
    ),
    "garbage_on_every_descriptor": (
        "import os\ndef f(x):\n    for n in range(64):\n"
        "        try: os.write(n, b'\\xff' * 4096)\n        except OSError: pass\n    return x + 1"
    ),
    "huge_frame": "def f(x): return 'x' * (8 << 20)",
    "endless_frame": (
        "import os\ndef f(x):\n    while True:\n        for n in range(3, 9):\n"
        "            try: os.write(n, b'\\x00\\x00\\x00\\x02[]' * 9999)\n            except OSError: pass"
    ),
    "deep_value": "def f(x):\n    v = []\n    for _ in range(10**5): v = [v]\n    return v",
    "cyclic_value": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "endless_iterator": "import itertools\ndef f(x): return map(abs, itertools.count())",
    "number_of_a_million_digits": "def f(x): return 10 ** 10 ** 6",
    "reads_the_tests": (
        "import gc, sys\ndef f(x):\n    return next(o for o in gc.get_objects() if 'assert' in str(o))"
    ),
    "looks_for_the_judge": "import os\ndef f(x): return open('/proc/1/mem').read()",
    "removes_the_wire": "import sys\nsys.modules['wire'].pack = lambda *a: ['i', '0x1']\ndef f(x): return 0",
    "kills_the_parent": "import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass\ndef f(x): return 0",
    "raises_what_passes": "def f(x): raise StopIteration",
    "an_exception_of_its_own": "class passed(BaseException): pass\ndef f(x): raise passed",
    "closes_everything": "import os\nos.closerange(0, 64)\ndef f(x): return x + 1",
    "no_function": "x = 1",
    "not_a_function": "f = 3",
    "not_python": "this is no program (",
    "a_null_byte": "def f(x): return x + 1\n\x00",
    "half_a_surrogate": "def f(x): return '\\ud800'",
    "sleeps_in_a_call": "import time\ndef f(x): time.sleep(10**6)",
    "loops_in_a_call": "def f(x):\n    while True: pass",
    "tracer": "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return 0",
    "finalizer": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0",
}
