"""Programs in C++ around native/: sanitizers, a fuzz target, allocations that fail, and
builds with a wrong constant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from case_file import CASES, SHORT, case

from sevenfold.engine import native

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native" / "engine"
CXX = os.environ.get("CXX", "g++").split()
pytestmark = pytest.mark.skipif(shutil.which(CXX[0]) is None, reason=f"no {CXX[0]}")
ADDRESS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-O1", "-g", "-fsanitize=thread")
FUZZ_SECONDS = 60


def program(name: str, out: Path, flags: Sequence[str] = (), sources: Path = NATIVE) -> Path:
    """The driver `name`, with a library of its own."""
    subprocess.run([sources / "build.sh", out, *flags], check=True, capture_output=True)
    return link(name, out, out / native.LIBRARY.name, flags)


def link(name: str, out: Path, library: Path, flags: Sequence[str] = ("-O1",)) -> Path:
    driver = out / name
    command = [*CXX, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-pthread", *flags, "-I", NATIVE]
    source = Path(__file__).with_name(f"{name}.cpp")
    subprocess.run([*command, source, library, f"-Wl,-rpath,{library.parent}", "-o", driver], check=True)
    return driver


def run(command: Sequence[object], cases: bytes = b"") -> tuple[int, str, str]:
    """Exit code, output and what was said on the other stream."""
    done = subprocess.run([str(c) for c in command], input=cases, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()[-3000:]


# What the driver for other machines says on this one.


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := native.unavailable():
        pytest.skip(f"native engine: {reason}")
    return link("cross_driver", tmp_path_factory.mktemp("driver"), native.LIBRARY)


def test_the_driver_agrees_with_the_reference(driver: Path) -> None:
    # The driver goes by the numbers of s7.h, which are not in the order of width.
    isas = sorted(native.instruction_sets(), key=lambda isa: native.ISAS[isa])
    lines = [f"case {i} {isa}: equal\n" for i in range(len(SHORT)) for isa in isas]
    assert run([driver], b"".join(map(case, SHORT)))[:2] == (0, "".join(lines))


@pytest.mark.parametrize("flip", [("exp2", 3), ("sigmoid", 2), ("rsqrt", 15)], ids=lambda flip: flip[0])
def test_a_flipped_table_entry_fails(flip: tuple[str, int], driver: Path) -> None:
    code, said, _ = run([driver], case("dense", flip))
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("case 0 scalar: logits")


def test_a_cut_case_fails(driver: Path) -> None:
    for cases in (b"", case("one")[:-1], case("one") + b"\1"):
        assert run([driver], cases)[0] == 1


# Builds of a copy of native/ with one constant changed: file, text that is
# there once, what replaces it.
WRONG = {
    "rounding of a rotation": ("row_ops.h", "u[i] = (a * c - b * s + 16384) >> 15;", "16384", "0"),
    "rounding of EXP2": ("fixed.h", "((part + 512) >> 10)", "512", "0"),
    "rounding of SIGMOID": ("fixed.h", "((part + 32) >> 6)", "32", "0"),
    "rounding of a rescale": ("fixed.h", "return ((t >> least(s - 17, u32{31})) + 1) >> 1;", ") + 1)",
        ") + 0)"),
    "table entry at its load": ("model.cpp", "std::memcpy(to.rsqrt, from.rsqrt, sizeof to.rsqrt);", ";",
                                "; to.rsqrt[40] ^= 4096;"),
    "distance of a table's entries": ("model.cpp", "sign * (entries[i + 1] - entries[i])", "- entries[i]",
                                      "- entries[i] + (i == 3)"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_build_with_a_wrong_constant_fails(name: str, tmp_path: Path) -> None:
    file, where, old, new = WRONG[name]
    sources = tmp_path / "native"
    shutil.copytree(NATIVE, sources)
    text = (sources / file).read_text()
    assert (text.count(where), where.count(old)) == (1, 1), "the text is there, once"
    (sources / file).write_text(text.replace(where, where.replace(old, new)))
    built = program("cross_driver", tmp_path / "out", ("-O0",), sources)
    code, said, _ = run([built], b"".join(map(case, SHORT)))
    assert code == 1
    assert said.splitlines()[-1].endswith(("logits", "logits of a batch", "keys and values"))


# Kernels at the ends of their ranges. They are inside the library, so a driver is linked with their
# objects.


def kernels_driver(name: str, out: Path, sources: Path = NATIVE) -> tuple[int, str, str]:
    subprocess.run(
        [sources / "build.sh", out, "-O1"],
        check=True,
        capture_output=True,
        env=os.environ | {"S7_OBJECTS": "1"},
    )
    driver, source = out / name, Path(__file__).with_name(f"{name}.cpp")
    command = [*CXX, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-O2", "-pthread", "-I", sources, source]
    subprocess.run([*command, *sorted(out.glob("*.o")), "-o", driver], check=True)
    return run([driver])


def test_pairs_of_products_stay_below_saturation() -> None:
    codes = np.arange(-127, 128)
    pair = 2 * np.abs(codes[:, None] * codes).max()
    assert pair == 32258 <= np.iinfo(np.int16).max


@pytest.mark.slow
def test_sums_of_products_at_the_ends_of_their_ranges(tmp_path: Path) -> None:
    code, said, why = kernels_driver("products_driver", tmp_path)
    assert (code, said.count(": equal\n")) == (0, len(native.instruction_sets())), said + why


@pytest.mark.slow
def test_heads_of_every_size_and_magnitude(tmp_path: Path) -> None:
    code, said, why = kernels_driver("heads_driver", tmp_path)
    assert (code, said.count(": equal\n")) == (0, len(native.instruction_sets())), said + why


@pytest.mark.slow
def test_a_rounding_of_one_instruction_set_is_found(tmp_path: Path) -> None:
    """The canary of heads."""
    sources = tmp_path / "native"
    shutil.copytree(NATIVE, sources)
    text = (sources / "registers256.h").read_text()
    right, wrong = "rounding = _mm256_set1_epi32(16384)", "rounding = _mm256_set1_epi32(16383)"
    assert text.count(right) == 1
    (sources / "registers256.h").write_text(text.replace(right, wrong))
    code, said, _ = kernels_driver("heads_driver", tmp_path / "out", sources)
    assert code == sum(name in native.instruction_sets() for name in ("avx2", "avxvnni"))
    assert "ROTATE of 64 values" in said


@pytest.mark.slow
def test_codes_offset_by_128_would_saturate(tmp_path: Path) -> None:
    """The canary: bytes of 8 bits beside signed ones are more than pairs of 16 bits hold."""
    sources = tmp_path / "native"
    shutil.copytree(NATIVE, sources)
    text = (sources / "avx2.cpp").read_text()
    kept, offset = "_mm256_maddubs_epi16(size, _mm256_sign_epi8(w[q], x))", "_mm256_set1_epi8(-128)"
    # Right but for the saturation: 128 more on one side, and taken off again.
    other = (
        f"_mm256_sub_epi16(_mm256_maddubs_epi16(_mm256_xor_si256(x, {offset}), w[q]),"
        f"_mm256_maddubs_epi16({offset}, w[q]))"
    )
    assert text.count(kept) == 1
    (sources / "avx2.cpp").write_text(text.replace(kept, f"{other}; (void)size"))
    code, said, _ = kernels_driver("products_driver", tmp_path / "out", sources)
    assert code == 1
    assert "1: other sums" in said


# Sanitizers.


@pytest.mark.slow
def test_clean_under_the_address_and_undefined_sanitizers(tmp_path: Path) -> None:
    assert run([program("native_driver", tmp_path, ADDRESS)]) == (0, "ok\n", "")
    compared = link("cross_driver", tmp_path, tmp_path / native.LIBRARY.name, ADDRESS)
    code, said, why = run([compared], b"".join(case(name) for name in CASES))
    assert (code, said.count("equal")) == (0, len(CASES) * len(native.instruction_sets())), why


@pytest.mark.slow
def test_clean_under_the_thread_sanitizer(tmp_path: Path) -> None:
    # It wants its part of the address space where it expects it: no randomisation.
    fixed = [tool, "-R"] if (tool := shutil.which("setarch")) else []
    assert run([*fixed, program("native_driver", tmp_path, THREAD)]) == (0, "ok\n", "")


@pytest.mark.slow
def test_damaged_models_and_calls_are_refused_or_run_alike(tmp_path: Path) -> None:
    code, said, why = run([program("fuzz_driver", tmp_path, ADDRESS), FUZZ_SECONDS, 1])
    assert code == 0, why
    print(said)


@pytest.mark.slow
def test_no_memory_is_an_error_and_nothing_more(tmp_path: Path) -> None:
    code, said, _ = run([program("memory_driver", tmp_path)])
    assert (code, said.count("allocations")) == (0, 4 * len(native.instruction_sets())), said
