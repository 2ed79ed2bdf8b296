"""`native/train` and a driver of it, built with a sanitizer and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native" / "train"


def run_sanitized(driver: str, sanitizer: str, isa: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What the driver (C++) says under `S7_ISA`; skips the test where there is no compiler."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g"]
    subprocess.run([NATIVE / "build.sh", directory, *flags], check=True)
    (directory / "driver.cpp").write_text(driver)
    program = directory / "driver"
    link = ["g++", "-std=c++20", *flags, "-I", NATIVE, directory / "driver.cpp", directory / "libs7train.so"]
    subprocess.run([*map(str, link), "-o", str(program), f"-Wl,-rpath,{directory}"], check=True)
    return subprocess.run(
        [program], env=os.environ | {"S7_ISA": isa}, capture_output=True, text=True, check=False
    )
