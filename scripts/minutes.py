"""Print the minutes of processor-bound test time of each folder: minutes.py REPORT.xml.

The report is that of `pytest --junitxml`. Times are summed over the processes of `make test`, so the
sum is about twice the time by the clock on two cores.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def by_folder(report: Path) -> list[tuple[str, int, float]]:
    """Return (folder, number of tests, seconds), the longest first."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        parts = case.attrib["classname"].split(".")
        folder = "/".join(parts[:2]) if len(parts) > 2 else parts[0]
        seconds[folder] += float(case.attrib["time"])
        tests[folder] += 1
    return [(folder, tests[folder], total) for folder, total in seconds.most_common()]


def main() -> None:
    """Print one line for each folder, and the sum."""
    rows = by_folder(Path(sys.argv[1]))
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    for folder, n_tests, total in rows:
        print(f"{folder:24} {n_tests:6} tests {total / 60:7.1f} min")


if __name__ == "__main__":
    main()
