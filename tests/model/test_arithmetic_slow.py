"""Other compilers and processors give the bits of specs/training-arithmetic.md, and a
build that breaks it does not.

NEON runs under qemu-user; `make slow-tools` installs what builds and runs it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native" / "train"
DRIVER = Path(__file__).with_name("arithmetic_driver.cpp")
ZIG = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl"]
QEMU = "qemu-aarch64-static"
PROMISED = "326fb86126cba52f"  # what the driver prints, wherever it runs

pytestmark = pytest.mark.slow


def build(sources: Path, out: Path, compiler: list[str], *flags: str) -> Path:
    """The driver, linked whole from the objects of a copy of `native/train`."""
    cache = str(ROOT / ".zig-cache")
    own = {"CXX": " ".join(compiler), "S7_OBJECTS": "1"}
    zig = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    environment = os.environ | own | zig
    out.mkdir()
    subprocess.run([sources / "build.sh", out], env=environment, check=True, capture_output=True)
    driver = out / "driver"
    command = [
        *compiler,
        *flags,
        "-std=c++20",
        "-O1",
        "-pthread",
        "-I",
        sources,
        DRIVER,
        *sorted(out.glob("*.o")),
    ]
    subprocess.run([*map(str, command), "-o", str(driver)], env=environment, check=True, capture_output=True)
    return driver


def said(driver: Path, isa: str, *before: str) -> str:
    """The hash of all results."""
    done = subprocess.run(
        [*before, str(driver)], env=os.environ | {"S7_ISA": isa}, capture_output=True, text=True, check=False
    )
    return done.stdout.split()[-1] if done.returncode == 0 else f"refused: {done.stdout}{done.stderr}"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_this_compiler(tmp_path: Path) -> None:
    driver = build(NATIVE, tmp_path / "out", ["g++"])
    found = {isa: said(driver, isa) for isa in ("scalar", "avx2", "avx512", "neon")}
    assert {value for value in found.values() if not value.startswith("refused")} == {PROMISED}, found


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="no ziglang")
@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}")
def test_arm(tmp_path: Path) -> None:
    driver = build(NATIVE, tmp_path / "out", ZIG, "-static")
    for processor in ("max", "cortex-a72"):
        for isa in ("scalar", "neon"):
            assert said(driver, isa, QEMU, "-cpu", processor) == PROMISED


# File, texts of it and what stands there instead, and the instruction set that
# then gives something else.
CANARIES: dict[str, tuple[str, dict[str, str], str]] = {
    "contraction": ("build.sh", {"-ffp-contract=off": "-ffp-contract=fast"}, "avx2"),
    "flushed subnormals": ("mode.h", {"kPlain = 0x1F80": "kPlain = 0x9FC0"}, "scalar"),
    "another rounding": ("mode.h", {"kPlain = 0x1F80": "kPlain = 0x3F80"}, "scalar"),
    "a length that is rounded": (
        "hybrid_head.cpp",
        {"share = std::fma(weights[j], lengths[j], share)": "share = weights[j] * lengths[j] + share"},
        "avx2",
    ),
    "libm": (
        "lanes.h",
        {
            "inline Register exponential(Register x) {\n": "inline Register exponential(Register x) {\n"
            "#if S7_WIDTH == 1\n    return std::exp(x);\n#endif\n"
        },
        "scalar",
    ),
    "a product that is rounded": (
        "product.h",
        {"fused(spread(*factor), v, sum)": "spread(*factor) * v + sum"},
        "avx2",
    ),
    "a second accumulator": (
        "rows.cpp",
        {
            "size_t n) {\n    Wide sum = wide(0.0f);": "size_t n) {\n    Wide sum = wide(0.0f), other = sum;",
            "        sum = fused(load_some(x + i, size), load_some(y + i, size), sum);\n": ""
            "        Wide &one = i / kWide % 2 ? other : sum;\n"
            "        one = fused(load_some(x + i, size), load_some(y + i, size), one);\n",
            "    return total(sum);": "    return total(sum + other);",
        },
        "avx2",
    ),
    "another tree": ("lanes.h", {"s[i] = s[i] + s[i + half]": "s[i] = s[2 * i] + s[2 * i + 1]"}, "scalar"),
}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("name", CANARIES)
def test_a_build_that_breaks_the_law_is_seen(name: str, tmp_path: Path) -> None:
    file, changes, isa = CANARIES[name]
    sources = tmp_path / "train"
    shutil.copytree(NATIVE, sources)
    # The instruction sets of a processor have one home.
    shutil.copytree(NATIVE.parent / "engine", tmp_path / "engine")
    text = (sources / file).read_text()
    for before, after in changes.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    (sources / file).write_text(text)
    found = said(build(sources, tmp_path / "out", ["g++"]), isa)
    assert not found.startswith("refused"), found
    assert found != PROMISED
