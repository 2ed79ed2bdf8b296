"""Facts about this machine: processor, memory, libraries, compilers, tools.

Nothing here enters a root. The facts are for people, and for the evidence beside a run.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sevenfold import __version__
from sevenfold.core.hashing import Json

# Extra -> the distributions that it installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "base": ("numpy", "tokenizers", "pydantic", "PyYAML", "typer", "rich"),
    "train": ("torch", "safetensors", "pyarrow", "license-expression", "tree-sitter", "rensa", "matplotlib"),
    "export": ("gguf", "transformers"),
    "sign": ("model-signing", "cryptography"),
}
# (program, its use, the Debian package that installs it)
PROGRAMS: tuple[tuple[str, str, str], ...] = (
    ("g++", "builds the native libraries", "g++"),
    ("git", "reads repositories as corpus sources", "git"),
    ("npm", "fetches pinned npm packages", "npm"),
    ("apt-get", "fetches pinned Debian packages", ""),
    ("node", "runs the WebAssembly tests", "nodejs"),
    ("qemu-aarch64-static", "runs the ARM tests", "qemu-user-static"),
    ("shellcheck", "checks the scripts of `s7 launch`", "shellcheck"),
    ("nvidia-smi", "a GPU of NVIDIA", ""),
)
# (room, library, its use)
NATIVE: tuple[tuple[str, str, str], ...] = (
    ("engine", "libs7.so", "integer inference; without it the NumPy reference runs"),
    ("model", "libs7train.so", "training kernels; without it PyTorch's run"),
    ("tokenizer", "libs7tokens.so", "encoding; without it the tokenizers library encodes"),
    ("corpus", "libs7corpus.so", "corpus steps; without it Python does them"),
)


@dataclass(frozen=True, slots=True)
class MachineFinding:
    """A part that is installed or missing. `remedy` is the command that installs it."""

    group: str
    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return the finding as a JSON object."""
        return asdict(self)


def inventory() -> dict[str, str]:
    """Return facts by name: processor, instruction sets, memory, kernel, Python, GPU driver."""
    processor, flags = _cpuinfo()
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "asimd", "asimddp", "i8mm")
    return {
        "sevenfold": __version__,
        "processor": processor or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "instruction sets": " ".join(flag for flag in wanted if flag in flags) or "unknown",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gpu": _gpu(),
    }


def examine() -> Iterator[MachineFinding]:
    """Yield a finding for each package, native library and program, and for the sandbox."""
    for extra, names in EXTRAS.items():
        for name in names:
            yield _package(extra, name)
    root = Path(__file__).resolve().parents[1]
    for room, library, what in NATIVE:
        ok = (root / room / "_native" / library).is_file()
        yield MachineFinding(
            "native libraries", library, ok, what, "" if ok else "make setup, or install a wheel"
        )
    yield _sandbox()
    for program, what, package in PROGRAMS:
        path = shutil.which(program)
        remedy = f"apt-get install {package}" if package and not path else ""
        yield MachineFinding("programs", program, path is not None, what, remedy)


def _package(extra: str, name: str) -> MachineFinding:
    group = "packages of the base install" if extra == "base" else f"packages of sevenfold[{extra}]"
    try:
        return MachineFinding(group, name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        wanted = "sevenfold" if extra == "base" else f"sevenfold[{extra}]"
        return MachineFinding(group, name, False, "not installed", f"pip install '{wanted}'")


def _sandbox() -> MachineFinding:
    try:
        import pyseccomp

        ok, detail = bool(pyseccomp.SyscallFilter), "executes samples behind a filter of system calls"
    except (ImportError, OSError, RuntimeError) as error:
        ok, detail = False, str(error)
    remedy = "" if ok else "pip install 'sevenfold[train]' and apt-get install libseccomp2"
    return MachineFinding("sandbox", "seccomp", ok, detail, remedy)


def _cpuinfo() -> tuple[str, frozenset[str]]:
    """Return the processor's name and its flags, as far as the system says them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor(), frozenset()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    flags = values.get("flags", values.get("Features", ""))
    return values.get("model name", values.get("CPU part", "")), frozenset(flags.split())


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{pages * size / 2**30:.1f} GiB"


def _gpu() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none found"
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi is here and does not answer"
    return "; ".join(done.stdout.split("\n")).strip("; ") or "none found"
