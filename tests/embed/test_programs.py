"""Programs around libsevenfold: misuse, sanitizers, failing allocations, packages, size, fuzzing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from build_attacks import ATTACKS, Parts, build
from build_refused import REFUSED
from embed_library import CXX, HEADER, NATIVE, ROOT
from embed_library import build as build_library
from embed_mutations import mutations

from sevenfold.artifact import parse_artifact
from sevenfold.engine import native

HERE = Path(__file__).resolve().parent
CC = os.environ.get("CC", "gcc").split()
CLANG = next((name for name in ("clang++", "clang++-14", "clang++-19") if shutil.which(name)), "clang++")
FUZZ_SECONDS = int(os.environ.get("S7_FUZZ_SECONDS", "60"))
ADDRESS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD = ("-O1", "-g", "-fsanitize=thread")
MAX_BYTES = 400_000
Sealed = Callable[[str], Path]
pytestmark = pytest.mark.skipif(shutil.which(CXX[0]) is None, reason=f"no {CXX[0]}")


def compiled(
    source: str, archive: Path, out: Path, flags: Sequence[str] = (), compiler: Sequence[str] = CXX
) -> Path:
    """A driver of this folder with the static library inside."""
    program = out / Path(source).stem
    is_c = source.endswith(".c")
    command = [
        *(CC if is_c else compiler),
        "-std=c11" if is_c else "-std=c++20",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    command += ["-D_POSIX_C_SOURCE=200809L"] if is_c else []
    includes = [f"-I{NATIVE / folder}" for folder in ("embed", "engine", "tokens")]
    subprocess.run(
        [*command, *flags, *includes, HERE / source, archive, "-lstdc++", "-pthread", "-lm", "-o", program],
        check=True,
    )
    return program


def run(*command: object, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout + done.stderr[-3000:]


@pytest.mark.subprocess
def test_wrong_calls_give_codes(tree: Path, sealed: Sealed, tmp_path: Path) -> None:
    program = compiled("misuse_driver.c", tree / "lib" / "libsevenfold.a", tmp_path)
    assert run(program, sealed("plain")) == (0, "0 wrong\n")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_wrong_calls_and_hostile_files_under_sanitizers(
    flags: Sequence[str], sealed: Sealed, tmp_path: Path
) -> None:
    archive = build_library(tmp_path / "tree", *flags) / "lib" / "libsevenfold.a"
    misuse = compiled("misuse_driver.c", archive, tmp_path, flags)
    for kind in ("plain", "stacks"):
        assert run(misuse, sealed(kind)) == (0, "0 wrong\n")
    reader = compiled("fuzz_driver.cpp", archive, tmp_path, ("-DS7F_FUZZ_MAIN", *flags))
    files = write_seeds(tmp_path / "seeds", sealed)
    for index, data in enumerate(mutations(3, 1500 if flags is ADDRESS else 100)):
        (tmp_path / "seeds" / f"m{index}").write_bytes(data)
    files = sorted((tmp_path / "seeds").iterdir())
    assert run(reader, *files) == (0, f"{len(files)} files\n")


@pytest.mark.slow
def test_each_allocation_may_fail(tree: Path, sealed: Sealed, tmp_path: Path) -> None:
    program = compiled("memory_driver.cpp", tree / "lib" / "libsevenfold.a", tmp_path)
    code, said = run(program, sealed("plain"))
    assert code == 0, said
    found = re.fullmatch(r"(\d+) allocations\n", said)
    assert found is not None
    assert int(found[1]) > 200


def as_lanes(data: bytes) -> bytes:
    """A file in the form that the fuzz driver cuts into lanes."""
    artifact = parse_artifact(data)
    lanes = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.sealed_lanes]
    head = bytes([artifact.version - 1, (artifact.class_ - 1) | (artifact.flags & 0x80)])
    return head + b"".join(bytes([i]) + len(p).to_bytes(2, "big") + p for i, p in lanes if len(p) < 1 << 16)


def write_seeds(directory: Path, sealed: Sealed) -> list[Path]:
    """Where the search begins: right files, every attack, all of them as lanes, and parts of them."""
    directory.mkdir()
    files = [build(name) for name in ATTACKS] + [Parts.sample().pack(), sealed("plain").read_bytes()]
    artifact = parse_artifact(files[-1])
    parts = [bytes(artifact.payload(lane)) for lane in artifact.lanes if lane.id != 2]
    parts += [b"\1h\2a\x0eb\x0f\x10\3\3\4"]
    everything = [*files, *map(as_lanes, files), *(make() for _, make in REFUSED.values()), *parts]
    for index, data in enumerate(everything):
        (directory / f"seed{index:03d}").write_bytes(data)
    return sorted(directory.iterdir())


@pytest.mark.slow
def test_no_finding_of_libfuzzer(sealed: Sealed, tmp_path: Path) -> None:
    """S7_FUZZ_SECONDS searches longer."""
    if shutil.which(CLANG) is None:
        pytest.skip("no clang, which has libFuzzer")
    flags = ("-O1", "-g", "-fno-sanitize-recover=all")
    instrument = "-fsanitize=fuzzer-no-link,address,undefined"
    tree = build_library(tmp_path / "tree", *flags, instrument, CXX=CLANG, S7_STATIC="1")
    fuzz = "-fsanitize=fuzzer,address,undefined"
    program = compiled("fuzz_driver.cpp", tree / "lib" / "libsevenfold.a", tmp_path, (*flags, fuzz), [CLANG])
    write_seeds(tmp_path / "corpus", sealed)
    code, said = run(
        program,
        f"-max_total_time={FUZZ_SECONDS}",
        "-max_len=90000",
        "-timeout=60",
        f"-artifact_prefix={tmp_path}/",
        tmp_path / "corpus",
    )
    assert code == 0, said
    runs = re.search(r"Done (\d+) runs", said)
    assert runs is not None
    assert int(runs[1]) > 500


# What is given to others.


@pytest.mark.subprocess
def test_the_library_is_small_and_needs_libc_and_the_runtime_of_c_plus_plus(
    tree: Path, tmp_path: Path
) -> None:
    if shutil.which("strip") is None or shutil.which("readelf") is None:
        pytest.skip("no binutils")
    stripped = tmp_path / "stripped.so"
    shutil.copy(tree / "lib" / "libsevenfold.so", stripped)
    subprocess.run(["strip", stripped], check=True)
    assert stripped.stat().st_size <= MAX_BYTES
    needed = re.findall(r"NEEDED.*\[(.*?)\]", run("readelf", "-d", stripped)[1])
    allowed = {"libc", "libm", "libstdc++", "libgcc_s", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert {name.split(".so")[0] for name in needed} <= allowed
    exported = re.findall(r" [TDBRW] (\S+)", run("nm", "-D", "--defined-only", stripped)[1])
    declared = set(re.findall(r"\b(s7f_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert set(exported) == declared


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "language",
    [("c", "-std=c99", "-pedantic"), ("c", "-std=c17", "-pedantic"), ("c++", "-std=c++11", "-pedantic")],
)
def test_the_header_is_plain(language: tuple[str, ...], tree: Path) -> None:
    command = [
        *CXX,
        "-x",
        *language,
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        f"-I{tree / 'include'}",
        "-",
    ]
    subprocess.run(
        command,
        input=b"#include <sevenfold.h>\nint main(void) { return s7f_abi() != S7F_ABI; }\n",
        check=True,
    )


@pytest.mark.subprocess
def test_pkg_config_finds_it_wherever_it_lies(tree: Path, sealed: Sealed, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None or shutil.which(CC[0]) is None:
        pytest.skip("no pkg-config, or no C compiler")
    shutil.copytree(tree, tmp_path / "moved", symlinks=True)
    found = {"PKG_CONFIG_PATH": str(tmp_path / "moved" / "lib" / "pkgconfig")}
    for flags, links in (((), [f"-Wl,-rpath,{tmp_path}/moved/lib"]), (("--static",), ["-static"])):
        code, said = run("pkg-config", "--cflags", "--libs", *flags, "sevenfold", **found)
        assert code == 0, said
        program = tmp_path / f"embed{len(flags)}"
        subprocess.run([*CC, ROOT / "examples" / "embed.c", *said.split(), *links, "-o", program], check=True)
        assert run(program, sealed("plain"), "def ", 3)[0] == 0


CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C CXX)
find_package(sevenfold {version} REQUIRED)
add_executable(shared embed.c)
target_link_libraries(shared PRIVATE sevenfold::sevenfold)
add_executable(static embed.c)
target_link_libraries(static PRIVATE sevenfold::sevenfold_static)
"""


@pytest.mark.subprocess
@pytest.mark.slow
def test_cmake_finds_it_wherever_it_lies(tree: Path, sealed: Sealed, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    shutil.copytree(tree, tmp_path / "moved", symlinks=True)
    version = re.search(r"^Version: (\S+)", (tree / "lib/pkgconfig/sevenfold.pc").read_text(), re.MULTILINE)
    assert version is not None
    shutil.copy(ROOT / "examples" / "embed.c", tmp_path)
    for wanted, is_there in (("99.0", False), (version[1], True)):
        (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(version=wanted))
        out = tmp_path / f"out{is_there}"
        made = run("cmake", "-S", tmp_path, "-B", out, f"-DCMAKE_PREFIX_PATH={tmp_path / 'moved'}")
        assert (made[0] == 0) is is_there, made[1]
    assert run("cmake", "--build", tmp_path / "outTrue")[0] == 0
    for program in ("shared", "static"):
        assert run(tmp_path / "outTrue" / program, sealed("plain"), "def ", 3)[0] == 0


CORE = ("-ffreestanding", "-DS7_FREESTANDING_CORE", "-fno-stack-protector", "-fno-asynchronous-unwind-tables")
# What compilers call by themselves, and what the compiler's own library says of the processor.
GIVEN = {"memcpy", "memmove", "memset", "memcmp", "s7_take", "s7_give"}
OF_THE_COMPILER = {"__cpu_model", "__cpu_features2", "__cpu_indicator_init", "_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.subprocess
def test_a_freestanding_core_needs_memory_alone(tmp_path: Path) -> None:
    """The engine on 16 MB of the program: equal to the ordinary one, and no C library inside."""
    if shutil.which("ld") is None or shutil.which("nm") is None or shutil.which(CC[0]) is None:
        pytest.skip("no binutils, or no C compiler")
    engine = NATIVE / "engine"
    subprocess.run(
        [engine / "build.sh", tmp_path / "core", *CORE], check=True, env=os.environ | {"S7_OBJECTS": "1"}
    )
    core = tmp_path / "core.o"
    subprocess.run(["ld", "-r", *sorted((tmp_path / "core").glob("*.o")), "-o", core], check=True)
    undefined = set(run("nm", "-u", core)[1].split()) - {"U"}
    assert undefined <= GIVEN | OF_THE_COMPILER
    said = []
    library = Path(native.LIBRARY).parent
    for name, flags in (
        ("core", ["-DS7_FREESTANDING_CORE", core]),
        ("whole", [f"-L{library}", "-ls7", f"-Wl,-rpath,{library}"]),
    ):
        program = tmp_path / f"driver_{name}"
        command = [
            *CC,
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{engine}",
            HERE / "freestanding_driver.c",
        ]
        # The linker of C: nothing of C++ can come in by itself.
        subprocess.run([*command, *flags, "-o", program], check=True)
        done = subprocess.run([program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(said[0].split()) > 50
