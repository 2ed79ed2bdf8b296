"""Write the tables of two pages from what benchmarks/engine.py wrote.

    python benchmarks/engine_tables.py [--check]    writes them; or exits 1 where they are others

README.md shows the lines of the widest instruction set. docs/how-to/speed.md shows what we are over
the best peer on each instruction set that was measured. A table stands between two marks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from engine import BATCH_LINES, LINES, PEERS, US, summary
from shapes import SHAPES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- engine: benchmarks/engine_tables.py -->", "<!-- engine: end -->"
ORDER = ("avx512", "avxvnni", "avx2", "neon")
TITLES = {"avx512": "AVX-512 VNNI", "avxvnni": "AVX-VNNI", "avx2": "AVX2", "neon": "NEON"}
NAMES = {US: "Sevenfold", "llama.cpp": "llama.cpp Q8_0", "ctranslate2": "CTranslate2 int8"}
WORDS = {
    "prefill 512": "prompt of 512",
    "decode 16+128": "128 tokens after 16",
    "decode 512+128": "128 tokens after 512",
}


def results(directory: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """What was measured, by instruction set, widest first."""
    paths = {isa: directory / f"engine-{isa}.json" for isa in ORDER}
    return {isa: json.loads(path.read_text()) for isa, path in paths.items() if path.exists()}


def speeds(lines: list[dict[str, Any]]) -> list[str]:
    """Rows of tokens/s."""
    rows = []
    for line in lines:
        if line["line"] in LINES:
            cells = [
                f"{line['engines'][e]['median']:,.0f}" if e in line["engines"] else "-" for e in (US, *PEERS)
            ]
            ratio = "-" if line["ratio"] is None else f"{line['ratio']:.2f}"
            rows.append(f"| {line['shape']} | {WORDS[line['line']]} | {' | '.join(cells)} | {ratio} |")
    return rows


def ratios(measured: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rows of ratios: a column for each instruction set."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for isa, lines in measured.items():
        for line in lines:
            if line["ratio"] is not None:
                found.setdefault((line["shape"], line["line"]), {})[isa] = line["ratio"]
    rows = []
    names = [*LINES, *BATCH_LINES]
    for (shape, name), by_isa in sorted(
        found.items(), key=lambda row: (list(SHAPES).index(row[0][0]), names.index(row[0][1]))
    ):
        words = f"{name}, over one sequence of ours" if name in BATCH_LINES else WORDS[name]
        cells = [f"{by_isa[isa]:.2f}" if isa in by_isa else "-" for isa in measured]
        rows.append(f"| {shape} | {words} | {' | '.join(cells)} |")
    return rows


def title(isa: str, machine: dict[str, Any]) -> str:
    """The instruction set, and whether others ran beside."""
    busy = " (busy machine)" if machine["load"][0] > machine["cores"] else ""
    return f"{TITLES[isa]}{busy}"


def speed_table(files: dict[str, dict[str, Any]]) -> str:
    """Return tokens/s of the widest instruction set, for the front page."""
    widest, value = next(iter(files.items()))
    machine = f"{value['machine']['cores']} cores ({value['machine']['cpu']}, {TITLES[widest]})"
    header = f"| shape | | {' | '.join(NAMES[e] for e in (US, *PEERS))} | us / best peer |"
    rows = speeds(summary(value["rows"]))
    return "\n".join((f"Tokens/s on {machine}:", "", header, "| --- |" + " --- |" * 5, *rows))


def ratio_table(files: dict[str, dict[str, Any]]) -> str:
    """Return our speed over the best peer's, with a column for each instruction set."""
    measured = {isa: summary(value["rows"]) for isa, value in files.items()}
    titles = [title(isa, files[isa]["machine"]) for isa in measured]
    columns = f"| us / best peer | | {' | '.join(titles)} |"
    first = "All engines use the instruction set of the column:"
    return "\n".join((first, "", columns, "| --- | --- |" + " --- |" * len(measured), *ratios(measured)))


PAGES = {"README.md": speed_table, "docs/how-to/speed.md": ratio_table}


def with_block(text: str, made: str) -> str:
    """Return a page with the block between its marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    for name, table in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        made = with_block(text, table(results()))
        if not args.check:
            (ROOT / name).write_text(made, encoding="utf-8")
        elif made != text:
            raise SystemExit(f"{name} has other tables than benchmarks/results")


if __name__ == "__main__":
    main()
