"""The languages that can be executed: the paths of their tools, and the commands that build and start
a program.

All tools are read-only inside. A toolchain outside of /usr (rustup, pyenv) is mounted at /opt/NAME,
so that no home directory is visible.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sevenfold.core.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Language:
    """The commands that build and start programs of one language.

    `build` is a shell command that reads /box/SOURCE and writes one file to standard output. It is ""
    where nothing is built. `start` starts the program. `address_space` is in bytes. A virtual machine
    reserves more than it uses.
    """

    name: str
    source: str
    find: Callable[[], Path | None]
    start: tuple[str, ...]
    build: str = ""
    # A command that only checks the source, without making a program.
    check: str = ""
    # 0 is the limit of memory.
    address_space: int = 0
    # Where the tool is mounted when it is not below /usr.
    shown: str = ""
    # Whether the libraries of the tool lie in ../lib. Without /proc it cannot find them by itself.
    has_libraries: bool = False
    # More system calls that its tool may make. A built program may not make them.
    calls: tuple[str, ...] = ()


def _on_path(tool: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        found = shutil.which(tool, path="/usr/local/bin:/usr/bin:/bin")
        # A Java virtual machine finds its libraries relative to its real path.
        return None if found is None else Path(found).resolve()

    return find


def _python() -> Path | None:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = Path(sys.base_prefix) / "bin" / name
    return path if path.is_file() else None


def _rust() -> Path | None:
    found = shutil.which("rustc")
    if found is None:
        return None
    # The program on the path may be a shim, which needs a home directory.
    done = subprocess.run([found, "--print", "sysroot"], capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip() or "/nowhere") / "bin" / "rustc"
    return path if path.is_file() else None


LANGUAGES = {
    language.name: language
    for language in (
        Language(name="python", source="main.py", find=_python,
            start=("python", "-I", "-S", "-B", "/box/main.py"),
                 shown="/opt/python"),
        Language(name="cpp", source="main.cpp", find=_on_path("g++"), start=("/box/program",),
                 build="g++ -std=c++20 -O1 -w -o /tmp/program /box/main.cpp 1>&2 && cat /tmp/program"),
        Language(name="rust", source="main.rs", find=_rust, start=("/box/program",), shown="/opt/rust",
                 build="{tool} --edition 2021 -C debuginfo=0 -C codegen-units=1 -C linker-features=-lld -A "
                     "warnings -o /tmp/program "
                 "/box/main.rs 1>&2 && cat /tmp/program",
                 check="{tool} --edition 2021 --crate-type lib --emit metadata -C debuginfo=0 -A warnings "
                 "-o /tmp/checked /box/main.rs 1>&2", address_space=4096 * MIB, has_libraries=True,
                 calls=("socketpair", "recvfrom", "recvmsg", "sendmsg", "sendto", "shutdown")),
        Language(name="javascript", source="main.js", find=_on_path("node"),
                 start=("node", "--max-old-space-size=256", "/box/main.js"),
                 address_space=4096 * MIB),
        Language(name="java", source="Main.java", find=_on_path("java"),
                 start=("java", "-Xmx256m", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData",
                     "/box/Main.java"),
                 address_space=8192 * MIB, has_libraries=True, calls=("socketpair",)),
    )
}  # fmt: skip


@cache
def tool_path(name: str) -> Path:
    """Return the path of a language's tool on this machine.

    Raises:
        UsageError: the language is unknown, or its tool is not installed.
    """
    language = LANGUAGES.get(name)
    if language is None:
        raise UsageError(f"no language {name!r}", remedy=f"use one of {', '.join(LANGUAGES)}")
    found = language.find()
    if found is None:
        raise UsageError(f"{name} programs cannot be executed: its tool is not installed", where="sandbox")
    return found


@dataclass(frozen=True)
class ToolMounts:
    """The mounts of a program as arguments of bubblewrap, and the path of its tool inside."""

    arguments: tuple[str, ...]
    tool: str


@cache
def tool_mounts(name: str) -> ToolMounts:
    """Return the mounts of a language's programs. Raises UsageError as `tool_path` does."""
    path = tool_path(name)
    arguments = ["--ro-bind", "/usr", "/usr"]
    for link in ("bin", "lib", "lib64", "lib32", "sbin"):
        top = Path("/") / link
        if top.is_symlink():
            arguments += ["--symlink", str(top.readlink()), f"/{link}"]
        elif top.is_dir():
            arguments += ["--ro-bind", f"/{link}", f"/{link}"]
    for extra in ("/etc/alternatives", "/etc/ld.so.cache", *map(str, sorted(Path("/etc").glob("java-*")))):
        arguments += ["--ro-bind-try", extra, extra]
    shown = LANGUAGES[name].shown
    if shown and not path.is_relative_to("/usr"):
        arguments += ["--ro-bind", str(path.parent.parent), shown]
        path = Path(shown) / "bin" / path.name
    if LANGUAGES[name].has_libraries:
        arguments += ["--setenv", "LD_LIBRARY_PATH", str(path.parent.parent / "lib")]
    return ToolMounts(tuple(arguments), str(path))


@cache
def version(name: str) -> str:
    """Return the first line of a tool's version output. Raises UsageError."""
    done = subprocess.run([tool_path(name), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def here() -> list[str]:
    """Return the languages whose tools are installed."""
    return [name for name, language in LANGUAGES.items() if language.find() is not None]
