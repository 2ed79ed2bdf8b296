"""What every fuzz target does: import the package from its sources, and start libFuzzer from seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris


def use_sources() -> None:
    """Put `src/` first, and leave out the finder of an editable install: what it loads,
    atheris does not instrument.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))


def fuzz(one: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Run libFuzzer with the flags of the command line, after the seeds are put into
    each corpus directory it names.
    """
    for directory in (Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")):
        directory.mkdir(parents=True, exist_ok=True)
        for index, seed in enumerate(seeds):
            (directory / f"seed{index:03d}").write_bytes(seed)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
