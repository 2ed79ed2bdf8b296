"""Wheels for other processors and systems (scripts/wheels.sh): what is in them, and what runs here.

The wheel of x86-64 Linux is installed and runs; the library of the ARM one completes a prompt under
qemu-user. Those of macOS and Windows are built and looked at, not run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from sevenfold.core.run_files import ARTIFACT
from sevenfold.runs.job import Job
from test_wheel_slow import install

ROOT = Path(__file__).resolve().parents[1]
QEMU = "qemu-aarch64-static"
EMBED = "sevenfold/artifact/_native/"
LIBRARIES = {
    f"sevenfold/{room}/_native/lib{name}.so"
    for room, name in (
        ("engine", "s7"),
        ("model", "s7train"),
        ("tokenizer", "s7tokens"),
        ("corpus", "s7corpus"),
        ("agent/memory", "s7memory"),
    )
}
TRAIN = "sevenfold/model/_native/libs7train.so"
# Tag: how its libraries begin, and which there are.
ELF_X86, ELF_ARM = (b"\x7fELF\x02\x01", 62), (b"\x7fELF\x02\x01", 183)
TAGS = {
    "manylinux_2_17_x86_64": (ELF_X86, LIBRARIES),
    "musllinux_1_2_aarch64": (ELF_ARM, LIBRARIES),
    "macosx_11_0_arm64": ((b"\xcf\xfa\xed\xfe", None), LIBRARIES - {TRAIN}),
    "win_amd64": ((b"MZ", None), LIBRARIES - {TRAIN}),
}
Wheel = Callable[[str], Path]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.subprocess,
    pytest.mark.skipif(
        importlib.util.find_spec("ziglang") is None
        or not (shutil.which("cmake") or importlib.util.find_spec("cmake")),
        reason="ziglang or cmake is not here: `make slow-tools` installs them",
    ),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """wheel(tag), built once."""
    out = tmp_path_factory.mktemp("wheels")

    def build(tag: str) -> Path:
        if not list(out.glob(f"*-{tag}.whl")):
            subprocess.run([ROOT / "scripts" / "wheels.sh", sys.executable, out, tag], check=True)
        (made,) = out.glob(f"*-py3-none-{tag}.whl")
        return made

    return build


@pytest.mark.parametrize("tag", TAGS)
def test_the_libraries_of_a_wheel_are_its_tag_s(tag: str, wheel: Wheel) -> None:
    (magic, machine), expected = TAGS[tag]
    files = ZipFile(wheel(tag))
    names = {n for n in files.namelist() if "_native" in n and not n.startswith(EMBED)}
    assert names == expected
    for name in names:
        raw = files.read(name)
        assert raw.startswith(magic), name
        assert machine in (None, int.from_bytes(raw[18:20], "little")), name
    assert {f"{EMBED}include/sevenfold.h", f"{EMBED}lib/libsevenfold.a"} <= set(files.namelist())


def test_a_tag_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    command = [ROOT / "scripts" / "wheels.sh", sys.executable, tmp_path, "beos"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "wheels: no target has the tag beos\n")


def test_the_wheel_of_this_machine_runs_with_an_old_libc(wheel: Wheel, tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("it is of x86-64")
    made = wheel("manylinux_2_17_x86_64")
    s7 = install(made, tmp_path / "fresh")
    assert [line.split()[:2] for line in s7("backends").splitlines() if "native" in line] == [
        ["native", "pass"]
    ]
    for name in LIBRARIES:
        ZipFile(made).extract(name, tmp_path)
        said = subprocess.run(
            ["objdump", "-T", tmp_path / name], capture_output=True, text=True, check=True
        ).stdout
        asked = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", said)}
        assert max(asked) <= (2, 17), name
        assert "GLIBCXX" not in said, name


def test_the_library_of_the_arm_wheel_completes_a_prompt(
    wheel: Wheel, dense_run: Job, tmp_path: Path
) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not here: `make slow-tools` installs it")
    ZipFile(wheel("musllinux_1_2_aarch64")).extractall(tmp_path)
    tree, program = tmp_path / EMBED, tmp_path / "embed"
    zig = [sys.executable, "-m", "ziglang"]
    cache = str(ROOT / ".zig-cache")
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    target = ["-target", "aarch64-linux-musl"]
    compiled = tmp_path / "embed.o"
    source = ROOT / "examples" / "embed.c"
    subprocess.run(
        [*zig, "cc", *target, "-I", tree / "include", "-c", source, "-o", compiled],
        env=environment,
        check=True,
    )
    subprocess.run(
        [*zig, "c++", *target, "-static", compiled, tree / "lib" / "libsevenfold.a", "-o", program],
        env=environment,
        check=True,
    )
    sealed = dense_run.out / ARTIFACT
    here = [sys.executable, "-m", "sevenfold", "run", sealed, "def ", "--max-tokens", "24"]
    expected = subprocess.run(here, capture_output=True, check=True).stdout
    found = subprocess.run([QEMU, program, sealed, "def ", "24"], capture_output=True, check=True).stdout
    assert found == expected
