"""The languages that can be executed: where their tools are, and how a
program is built and started.

Everything is read-only inside. A toolchain outside of /usr (rustup, pyenv) is shown at /opt/NAME,
so that no home directory is seen.
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
    """How programs of one language are built and started.

    `build` is a command of a shell that reads /box/SOURCE and writes one file to standard output;
    "" where nothing is built. `start` begins the program. `address_space` is in bytes; a virtual
    machine reserves more than it uses.
    """

    name: str
    source: str
    find: Callable[[], Path | None]
    start: tuple[str, ...]
    build: str = ""
    # As `build`, without a program: it only proves that the source is one.
    check: str = ""
    # 0: as much as the memory that it may use.
    address_space: int = 0
    # Where the tool is shown when it is not below /usr.
    shown: str = ""
    # Whether the tool's own libraries lie in ../lib: it cannot find them by itself without /proc.
    has_libraries: bool = False
    # System calls that its tool makes besides; a program that was built has none of them.
    calls: tuple[str, ...] = ()


def _on_path(tool: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        found = shutil.which(tool, path="/usr/local/bin:/usr/bin:/bin")
        # A Java machine finds its libraries beside its real place.
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
    # What is on the path may be a shim, which needs a home directory.
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
    """Return where the tool of a language is on this machine.

    Raises:
        UsageError: no such language, or its tool is not installed.
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
    """What of the machine a program sees, as arguments of bubblewrap, and its tool's path inside."""

    arguments: tuple[str, ...]
    tool: str


@cache
def place(name: str) -> ToolMounts:
    """Return the file system of a language's programs. Raises UsageError as `tool_path`."""
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
    """Return the first line of what the tool of a language says of its version. Raises UsageError."""
    done = subprocess.run([tool_path(name), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def here() -> list[str]:
    """Return the languages whose tools are installed."""
    return [name for name, language in LANGUAGES.items() if language.find() is not None]
