"""NEON under qemu-user and WebAssembly under Node.js equal the reference bit for bit, and so
do the scalar kernels there.

`make slow-tools` installs what builds and runs them: zig (PyPI `ziglang`), qemu-user,
Node.js and binutils for ARM.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from case_file import CASES, SHORT, TABLES, case
from wasm_code import float_arithmetic, instructions

from sevenfold.core.numbers import tables
from sevenfold.engine import native, native_ffi

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native" / "engine"
ZIG = [sys.executable, "-m", "ziglang", "c++"]
CACHE = ROOT / ".zig-cache"  # survives; the first build fills it with the C and C++ libraries of a target
OBJDUMP = "aarch64-linux-gnu-objdump"
WASI = (
    "import {WASI} from 'node:wasi'; import {readFileSync} from 'node:fs';"
    "const wasi = new WASI({version: 'preview1', args: ['driver']});"
    "const {instance} = await WebAssembly.instantiate(readFileSync(process.argv[1]), wasi.getImportObject());"
    "process.exitCode = wasi.start(instance);"
)


@dataclass(frozen=True)
class Target:
    """How to build for a target and how to run there: the driver's path follows `run`."""

    triple: str
    isas: tuple[str, ...]
    run: tuple[str, ...]

    def missing(self) -> str | None:
        if importlib.util.find_spec("ziglang") is None:
            return "ziglang"
        return None if shutil.which(self.run[0]) else self.run[0]


QEMU = "qemu-aarch64-static"
TARGETS = {
    "aarch64": Target("aarch64-linux-musl", ("scalar", "neon"), (QEMU, "-cpu", "max")),
    "aarch64-no-matrices": Target("aarch64-linux-musl", ("scalar", "neon"), (QEMU, "-cpu", "neoverse-n1")),
    "aarch64-no-dot": Target("aarch64-linux-musl", ("scalar", "neon"), (QEMU, "-cpu", "cortex-a72")),
    "wasm32": Target(
        "wasm32-wasi", ("scalar", "wasm"), ("node", "--no-warnings", "--input-type=module", "-e", WASI, "--")
    ),
}
Build = Callable[[str], Path]


def zig(*arguments: object) -> None:
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(CACHE), "ZIG_LOCAL_CACHE_DIR": str(CACHE)}
    subprocess.run([str(a) for a in arguments], env=environment, capture_output=True, check=True, text=True)


def build_driver(triple: str, out: Path, sources: Path = NATIVE) -> Path:
    """The driver for a triple, in the directory of the objects that build.sh of the sources makes."""
    compiler = [*ZIG, "-target", triple]
    zig("env", "S7_OBJECTS=1", f"CXX={' '.join(compiler)}", sources / "build.sh", out)
    flags = ["-static", "-std=c++20", "-O1", "-fno-exceptions", "-I", sources]
    source = Path(__file__).with_name("cross_driver.cpp")
    zig(*compiler, *flags, source, *sorted(out.glob("*.o")), "-o", out / "driver")
    return out / "driver"


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build_driver`, once for each triple."""
    done: dict[str, Path] = {}

    def build(triple: str) -> Path:
        if triple not in done:
            done[triple] = build_driver(triple, tmp_path_factory.mktemp(triple))
        return done[triple]

    return build


def run(target: Target, driver: Path, cases: bytes) -> tuple[int, list[str]]:
    """Exit code and lines of the driver on cases."""
    done = subprocess.run([*target.run, str(driver)], input=cases, capture_output=True, check=False)
    return done.returncode, done.stdout.decode().splitlines()


def driver_of(name: str, build: Build) -> tuple[Target, Path]:
    target = TARGETS[name]
    if reason := target.missing():
        pytest.skip(f"{reason} is not here: `make slow-tools` installs it")
    return target, build(target.triple)


def expected(target: Target, n_cases: int) -> list[str]:
    return [f"case {index} {isa}: equal" for index in range(n_cases) for isa in target.isas]


@pytest.mark.parametrize("name", TARGETS)
def test_every_bit_is_the_reference_s(name: str, build: Build) -> None:
    target, driver = driver_of(name, build)
    assert run(target, driver, b"".join(map(case, SHORT))) == (0, expected(target, len(SHORT)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_every_bit_over_several_pages(name: str, build: Build) -> None:
    target, driver = driver_of(name, build)
    long = [c for c in CASES if c not in SHORT]
    assert run(target, driver, b"".join(map(case, long))) == (0, expected(target, len(long)))


# Canaries: a wrong bit must not pass.


@pytest.mark.parametrize("flip", [("exp2", 3), ("sigmoid", 2), ("rsqrt", 15)], ids=lambda flip: flip[0])
@pytest.mark.parametrize("name", TARGETS)
def test_a_flipped_table_entry_fails(name: str, flip: tuple[str, int], build: Build) -> None:
    target, driver = driver_of(name, build)
    code, lines = run(target, driver, case("dense", flip))
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("case 0 scalar: logits")


def test_flips_are_of_every_table() -> None:
    sizes = {"exp2": tables.exp2(), "sigmoid": tables.sigmoid(), "rsqrt": tables.rsqrt()}
    starts = np.cumsum([0, *(len(table) for table in sizes.values())])
    assert dict(zip(sizes, starts[:-1].tolist(), strict=True)) == TABLES
    # Every array of the library's structure is one of them.
    assert [name for name, _ in native_ffi.Tables._fields_] == list(TABLES)


@pytest.mark.slow
def test_each_arm_processor_runs_its_own_products(tmp_path: Path) -> None:
    """A fault of the products of matrices shows where they are, and nowhere else."""
    if reason := TARGETS["aarch64"].missing():
        pytest.skip(f"{reason} is not here: `make slow-tools` installs it")
    sources = tmp_path / "native"
    shutil.copytree(NATIVE, sources)
    text, right = (sources / "neon.cpp").read_text(encoding="utf-8"), "two ? 8 : 4"
    assert text.count(right) == 1
    (sources / "neon.cpp").write_text(text.replace(right, "4"), encoding="utf-8")
    driver = build_driver("aarch64-linux-musl", tmp_path / "out", sources)
    found = {name: run(TARGETS[name], driver, case("dense"))[0] for name in TARGETS if "wasm" not in name}
    assert found == {"aarch64": 1, "aarch64-no-matrices": 0, "aarch64-no-dot": 0}


@pytest.mark.parametrize("name", TARGETS)
def test_a_cut_case_fails(name: str, build: Build) -> None:
    target, driver = driver_of(name, build)
    assert run(target, driver, case("dense")[:-1])[0] == 1
    assert run(target, driver, b"")[0] == 1


# No arithmetic on floats in the objects.

ARM_FLOAT = re.compile(r"^f(?!mov$)|^[su]cvtf|^bf(dot|ml|cvt|mm)")


@pytest.mark.parametrize(
    "name", ["fadd", "fmul", "fmla", "fcvtzs", "scvtf", "ucvtf", "fcmp", "bfdot", "fsqrt"]
)
def test_the_rule_knows_float_arithmetic_of_arm(name: str) -> None:
    assert ARM_FLOAT.search(name)


@pytest.mark.parametrize("name", ["fmov", "sdot", "smlal", "dup", "ld1", "bic", "bfi", "bfxil"])
def test_the_rule_lets_integers_pass(name: str) -> None:
    assert not ARM_FLOAT.search(name)


def test_no_floating_point_arithmetic_on_arm(build: Build) -> None:
    if shutil.which(OBJDUMP) is None:
        pytest.skip(f"{OBJDUMP} is not here: `make slow-tools` installs it")
    _, driver = driver_of("aarch64", build)
    found = []
    for path in driver.parent.glob("*.o"):
        text = subprocess.run(
            [OBJDUMP, "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
        )
        found += re.findall(r"^ +[0-9a-f]+:\t(\S+)", text.stdout, re.MULTILINE)
    assert len(found) > 5000
    assert {"sdot", "smmla"} <= set(found), "dot products and products of matrices are there"
    assert sorted({name for name in found if ARM_FLOAT.search(name)}) == []


def test_no_floating_point_arithmetic_in_webassembly(build: Build) -> None:
    _, driver = driver_of("wasm32", build)
    objects = {path.stem: path.read_bytes() for path in driver.parent.glob("*.o")}
    assert sum(len(instructions(raw)) for raw in objects.values()) > 5000
    assert (0xFD, 0xBA) in instructions(objects["wasm"]), "i32x4.dot_i16x8_s is there"
    assert {name: bad for name, raw in objects.items() if (bad := float_arithmetic(raw))} == {}


FLOAT_SOURCES = {
    "scalar": "float f(float a, float b) { return a * b + 1; }",
    "convert": "int f(double a) { return (int)a; }",
    "saturate": "int f(float a) { return __builtin_wasm_trunc_saturate_s_i32_f32(a); }",
    "vector": "typedef float v __attribute__((vector_size(16))); v f(v a, v b) { return a + b; }",
    "square root": "float f(float a) { return __builtin_sqrtf(a); }",
}


@pytest.mark.parametrize("source", FLOAT_SOURCES)
def test_float_arithmetic_in_webassembly_is_seen(source: str, tmp_path: Path) -> None:
    if reason := TARGETS["wasm32"].missing():
        pytest.skip(f"{reason} is not here: `make slow-tools` installs it")
    (tmp_path / "f.cpp").write_text(FLOAT_SOURCES[source])
    flags = ["-target", "wasm32-wasi", "-O2", "-msimd128", "-mnontrapping-fptoint"]
    zig(*ZIG, *flags, "-c", tmp_path / "f.cpp", "-o", tmp_path / "f.o")
    assert float_arithmetic((tmp_path / "f.o").read_bytes())


def test_the_widest_instruction_set_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.ISA_VARIABLE, raising=False)
    for here in (
        ["scalar", "neon"],
        ["scalar", "avx2", "avxvnni", "avx512"],
        ["scalar", "avx2"],
        ["scalar", "wasm"],
    ):
        monkeypatch.setattr(native, "instruction_sets", lambda here=here: here)
        assert native.choose_isa() == here[-1]
