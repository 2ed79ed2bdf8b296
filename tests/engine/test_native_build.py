"""What the compiler made of native/: no floating-point arithmetic, no name but the header's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sevenfold.engine import native
from sevenfold.engine import native_ffi as abi

ROOT = Path(__file__).resolve().parents[2]
needs_library = pytest.mark.skipif(not native.LIBRARY.is_file(), reason="the native engine was not built")
needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")
# x86: arithmetic, conversion and comparison of floats. Moves, shuffles and blends of
# registers are no arithmetic.
FLOAT = re.compile(
    r"^v?(add|sub|mul|div|sqrt|min|max|rcp|rcp14|rsqrt|rsqrt14|round|rndscale|scalef|getexp|cmp\w*|ucom|"
    r"u?comi?|dp|hadd|hsub|addsub)"
    r"(ss|sd|ps|pd)$|^v?cvt|^vf(n?m)(add|sub)|^f(add|sub|mul|div|ild|ist|ld|st|com|sqrt)"
)


def instructions(library: Path) -> list[str]:
    """Mnemonics of every instruction in the library."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return [
        line.split("\t")[1].split()[0]
        for line in text.splitlines()
        if line.count("\t") and line.split("\t")[1]
    ]


FLOATS = (
    "mulss",
    "addsd",
    "vfmadd213ps",
    "vfnmadd231sd",
    "cvtsi2sd",
    "vcvtdq2ps",
    "vdivpd",
    "sqrtss",
    "vmaxps",
    "fld",
)


@pytest.mark.parametrize("name", [*FLOATS, "vcmpltps", "fadd", "ucomiss"])
def test_the_rule_knows_float_arithmetic(name: str) -> None:
    assert FLOAT.search(name)


@needs_library
@needs_objdump
def test_no_floating_point_arithmetic() -> None:
    found = instructions(native.LIBRARY)
    assert len(found) > 5000
    assert sorted({name for name in found if FLOAT.search(name)}) == []


@needs_library
@needs_objdump
def test_only_the_header_is_visible() -> None:
    text = subprocess.run(
        ["nm", "-D", "--defined-only", str(native.LIBRARY)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in text.stdout.splitlines()}
    header = (ROOT / "native" / "engine" / "s7.h").read_text()
    # What a freestanding core asks of the program is no part of the library.
    header = re.sub(r"#if defined\(S7_FREESTANDING_CORE\).*?#endif", "", header, flags=re.DOTALL)
    declared = set(re.findall(r"\b(s7_\w+)\(", header))
    assert names == declared == set(abi.SIGNATURES)
