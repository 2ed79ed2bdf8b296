"""Texts and memories that several tests take."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sevenfold.agent.memory import Addition, AdditionReport, add_source, open_source

FILES = {
    "pkg/tables.py": b'''# SPDX-License-Identifier: MIT
"""Tables."""


def read_table(path):
    """Read the rows of a table from a file."""
    return parse_rows(open_text(path))


def write_table(path, rows):
    """Write rows and sync them to the disk."""
    save_text(path, "".join(rows))
''',
    "pkg/texts.py": b'''def open_text(path):
    """Open a text and decode it."""
    return path.read_text()


def save_text(path, text):
    path.write_text(text)
''',
    "pkg/rows.rs": b"""/// Parses rows of a table.
pub fn parse_rows(text: &str) -> Vec<Row> {
    text.lines().map(parse_row).collect()
}
""",
    "README.md": b"# Tables\n\nRead and write tables.\n\n## Colours\n\nA palette of green and blue.\n",
}


def write_files(root: Path, files: dict[str, bytes] = FILES) -> Path:
    """Write files below a directory and return it."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def remember(memory: Path, source: Path, name: str = "", **how: object) -> AdditionReport:
    """Add a source with these settings."""
    with open_source(source, name) as opened:
        return add_source(memory, opened, Addition(**how))  # type: ignore[arg-type]


def commit(repository: Path, when: int = 1_700_000_000) -> None:
    """Commit all of a repository, which is made when it is not there."""
    stamp = f"{when} +0000"
    environment = os.environ | {
        "GIT_AUTHOR_DATE": stamp,
        "GIT_COMMITTER_DATE": stamp,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "--allow-empty", "-m", "x")):
        subprocess.run(["git", *identity, "-C", repository, *command], check=True, env=environment)
