"""Export, ask every runtime, and keep what they said: parity_table.py SOURCE TARGET:TYPE...

Results go to interop/results.json, one entry for each model, target and type; the table in
interop/README.md is made of them (`--render` makes it again without exporting anything).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
HEAD = (
    "| model | target | type | MB | re-read | transformers | llama.cpp | Go | perplexity | change | KL,"
    " nats |"
)


def cell(checks: list[dict[str, Any]], runtime: str) -> str:
    """What one runtime said: pass (how many prompts, how many at a tie),
    measured, or why it was not asked.
    """
    mine = [check for check in checks if check["runtime"] == runtime]
    if not mine:
        return ""
    if mine[0]["status"] == "skipped":
        return "not read" if "does not read" in mine[0]["detail"] else "not asked"
    greedy = next((check["figures"] for check in mine if check["name"] == "greedy"), None)
    words = ["pass" if any(check["status"] == "pass" for check in mine) else "measured"]
    if greedy:
        words.append(f"{greedy['tokens']:.0f} token{'s' if greedy['tokens'] != 1 else ''}")
        words += [f"{greedy['ties']:.0f} ties"] if greedy["ties"] else []
    ids = next((check for check in mine if check["name"] == "ids"), None)
    if ids and ids["status"] == "measured":
        words.append("ids differ in {:.0f} of 500 blocks".format(ids["figures"]["blocks of 40 lines"]))
    return ", ".join(words)


def render(results: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    rows = [HEAD, "|" + " --- |" * HEAD.count(" | ") + " --- |"]
    for report in sorted(results, key=lambda r: (r["model"], r["target"], -r["n_bytes"])):
        checks = report["checks"]
        found = [c["figures"] for c in checks if c["name"] == "perplexity" and "perplexity" in c["figures"]]
        figures = found[0] if found else {}
        kind = report["quant"] + (f" ({report['n_fallback']} fall back)" if report["n_fallback"] else "")
        cells = [report["model"], report["target"], kind, f"{report['n_bytes'] / 1e6:.1f}"]
        cells += [cell(checks, runtime) for runtime in ("re-read", "transformers", "llama.cpp", "go")]
        if figures:
            change, kl = 100 * figures["change"], max(0.0, figures["kl"])
            cells += [f"{figures['perplexity']:.3f}", f"{change:+.3f} %", f"{kl:.2g}"]
        else:
            cells += ["", "", ""]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def page(text: str, results: list[dict[str, Any]]) -> str:
    """The page with its table made again."""
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{render(results)}\n{END}{rest.split(END, 1)[1]}"


def main(source: str, wanted: list[str]) -> None:
    """Run the exports and rewrite both files."""
    from sevenfold.core.errors import SevenfoldError
    from sevenfold.export.run import Request, export
    from sevenfold.report.console import make_progress

    for item in wanted:
        target, quant = item.split(":")
        with tempfile.TemporaryDirectory(dir=".") as folder:
            request = Request(target=target, quant=quant, ids_only=target == "gguf")
            try:
                report = export(Path(source), Path(folder) / "model", request, make_progress())
            except SevenfoldError as error:
                print(f"{item}: {error}", file=sys.stderr)
                continue
        key = (report["model"], report["target"], report["quant"])
        results = (
            json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        )  # another process may add rows, too
        results = [r for r in results if (r["model"], r["target"], r["quant"]) != key] + [report]
        for check in report["checks"]:
            print(item, check["runtime"], check["name"], check["status"], check["detail"])
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(PAGE.read_text(), results))


if __name__ == "__main__":
    if sys.argv[1:] == ["--render"]:
        PAGE.write_text(page(PAGE.read_text(), json.loads(RESULTS.read_text())))
    else:
        main(sys.argv[1], sys.argv[2:])
