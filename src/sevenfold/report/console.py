"""Output in the terminal: live progress on stderr, tables and the closing summary on stdout.

On a terminal, progress is one live line for each stage. In a pipe or a CI log, it is a plain line
every few seconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sevenfold.core.hashing import Json
from sevenfold.core.process.log import escaped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from rich.table import Table

PLAIN_EVERY = 10.0
# Number of columns from which there is room for a long bar.
WIDE = 60
_STATUS_STYLE = {"pass": "green", "fail": "bold red", "skipped": "yellow"}


def _seconds(value: float) -> str:
    whole = round(value)
    return f"{whole // 60}:{whole % 60:02d}"


def shown_figures(fields: Mapping[str, float | str]) -> list[str]:
    """Return the figures of a step in a readable form and a fixed order."""
    parts = []
    if "loss" in fields:
        parts.append(f"loss {float(fields['loss']):.3f}")
    if "tokens_per_second" in fields:
        parts.append(f"{float(fields['tokens_per_second']):,.0f} tokens/s")
    return parts + [f"{k} {v}" for k, v in fields.items() if k not in ("loss", "tokens_per_second")]


def _wrapped(parts: Sequence[str], width: int) -> str:
    """Return lines with as many parts as fit on each; no part is cut."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    return "\n".join(lines)


class PlainProgress:
    """Progress as occasional lines on stderr."""

    def __init__(self) -> None:
        self._stage, self._total, self._unit = "", 0, ""
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Store what is counted. The first line is printed later."""
        self._stage, self._total, self._unit = stage, total or 0, unit
        self._began = self._said = time.monotonic()
        self._first = None

    def advance(self, done: int, **fields: float | str) -> None:
        """Print a line at most every ten seconds, with the time left."""
        if self._first is None:
            self._first = done - 1
        now = time.monotonic()
        if now - self._said < PLAIN_EVERY:
            return
        self._said = now
        left = ""
        if self._total and done > self._first:
            per_unit = (now - self._began) / (done - self._first)
            left = f"  {_seconds(per_unit * (self._total - done))} left"
        total = f"/{self._total}" if self._total else ""
        self.note(f"{self._stage}  {done}{total} {self._unit}  {'  '.join(shown_figures(fields))}{left}")

    def note(self, text: str) -> None:
        """Print one line."""
        print(escaped(text), file=sys.stderr, flush=True)


class LiveProgress:
    """Progress as live bars on a terminal, with the figures of the newest bar below them, on as
    many lines as needed.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column
        from rich.text import Text

        live = self

        class View(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                yield self.make_tasks_table(self.tasks)
                if live._figures:
                    yield Text(_wrapped(live._figures, self.console.width))

        console = Console(stderr=True)
        self._figures: list[str] = []
        self._bar: Bar = View(
            # This column wraps first, so that counts stay whole.
            TextColumn("{task.description}", table_column=Column()),
            BarColumn(bar_width=24 if console.width >= WIDE else 4),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Start a new bar. It ends the bar before, whether its length was known or not."""
        self._bar.start()
        if self._task is not None:
            before = next(t for t in self._bar.tasks if t.id == self._task)
            self._bar.update(before.id, total=before.completed, visible=before.completed > 0)
            if self._figures:
                self.note(f"{before.description}: {'  '.join(self._figures)}")
        self._task = self._bar.add_task(f"{stage} ({unit})", total=total)
        self._figures = []

    def advance(self, done: int, **fields: float | str) -> None:
        """Move the newest bar."""
        if self._task is not None:
            self._figures = shown_figures(fields)
            self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._bar.console.print(escaped(text), highlight=False, markup=False)

    def close(self) -> None:
        """Restore the terminal."""
        self._bar.stop()


def make_progress() -> PlainProgress | LiveProgress:
    """Return the progress that suits stderr. A terminal that cannot move its cursor gets plain
    lines.
    """
    live = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return LiveProgress() if live else PlainProgress()


def close_progress(progress: object) -> None:
    """Stop live drawing, if it is active."""
    if isinstance(progress, LiveProgress):
        progress.close()


def print_on_stdout(renderable: RenderableType) -> None:
    """Draw on stdout, with the width of the terminal, or 160 columns without one."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # The command line decides what happens when the reader is gone.
            raise BrokenPipeError

    Quiet(width=None if sys.stdout.isatty() else 160).print(renderable)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table on stdout; cells are text, never markup."""
    from rich.text import Text

    table = _table(title, columns)
    for row in rows:
        table.add_row(*(Text(escaped(cell), style=_STATUS_STYLE.get(cell, "")) for cell in row))
    print_on_stdout(table)


def print_runs(title: str, runs: Sequence[tuple[str, bool]]) -> None:
    """Print text on stdout under a title; marked runs are green, or stand between `{+` and `+}`
    where there are no colours.
    """
    from rich.text import Text

    print(title)
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        print("".join(f"{{+{text}+}}" if marked else text for text, marked in runs) + "\n")
        return
    line = Text()
    for text, marked in runs:
        line.append(text, style="bold green" if marked else "dim")
    print_on_stdout(line)


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_verification(verification: Mapping[str, Json]) -> None:
    """Print the table of V0 to V7."""
    rows = [[r["id"], r["title"], r["status"], r["detail"]] for r in verification["rows"]]
    print_table(f"{verification['path']}  root {verification['root']}", ("rule", "what", "", "detail"), rows)
    for note in verification.get("notes", []):
        print(note)


def print_inspection(value: Mapping[str, Json]) -> None:
    """Print header, notes, lanes, parts, identity and tensors of an artifact."""
    head = ("path", "root", "version", "class", "flags", "n_bytes")
    print_table("artifact", ("field", "value"), [[k, str(value[k])] for k in head])
    print_table(
        "lanes",
        ("lane", "kind", "offset", "bytes", "sha256"),
        [
            [x["name"], x["kind"], str(x["offset"]), f"{x['n_bytes']:,}", x["sha256"][:16]]
            for x in value["lanes"]
        ],
    )
    for note in value["notes"]:
        print(f"note: {note}")
    print_table("parts", ("part", "sub-root"), [list(row) for row in value["parts"].items()])
    identity = {k: v for k, v in value["identity"].items() if k != "facts"}
    print_table("identity", ("field", "value"), [[k, str(v)] for k, v in identity.items()])
    print_table(
        "tensors",
        ("name", "shape", "bytes"),
        [[t["name"], "x".join(map(str, t["dims"])), f"{t['n_bytes']:,}"] for t in value["tensors"]],
    )


def print_summary(summary: Mapping[str, Json]) -> None:
    """Print the summary that ends a run."""
    rows = [
        ["held-out bits per byte, FP32", f"{summary['heldout_bpb']:.4f}"],
        ["  on the windows compared: FP32", f"{summary['bpb_fp32']:.4f}"],
        ["  on the windows compared: INT8", f"{summary['bpb_int']:.4f} ({summary['bpb_increase']:+.3%})"],
        ["  gzip -9 of the same files", f"{summary['gzip_bpb']:.4f}"],
        ["greedy agreement INT8 / FP32", f"{summary['top1_agreement']:.2%}"],
        ["parameters", f"{summary['n_parameters']:,}"],
        ["artifact", f"{summary['artifact']} ({summary['n_bytes']:,} bytes)"],
        ["Merkle root", summary["root"]],
        ["report", summary["report"]],
    ]
    print_table(summary["recipe"], ("", ""), rows)
    for item in summary["completions"]:
        print(f"--- {item['prompt']!r}")
        print(item["prompt"] + item["text"])
    print("---")
