"""The report: whole from manifests and logs alone, honest about what is missing, and
closed to what its content says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.core.errors import StorageError
from sevenfold.core.files import write_json
from sevenfold.core.manifest import Manifest, Output, write_manifest
from sevenfold.report import page
from sevenfold.report.html import STAGES, number, percent, read_run, render, size, write_report

COUNT = {"n_documents": 3, "n_bytes": 1234}
FACTS: dict[str, dict[str, Any]] = {
    "corpus": {
        "heldout_gzip_bpb": 2.00837,
        "groups": [
            {
                "source": "stdlib",
                "version": "CPython 3.11.7",
                "licence": "PSF-2.0",
                "domain": "code",
                "licence_evidence": ["LICENSE.txt"],
                "seen": {"n_documents": 733, "n_bytes": 12_081_798},
                "train": {"n_documents": 692, "n_bytes": 11_565_785},
                "heldout": {"n_documents": 36, "n_bytes": 515_878},
                "dropped": {"duplicate": {"n_documents": 5, "n_bytes": 135}},
            }
        ],
    },
    "tokenizer": {"vocab_size": 4096, "n_tokens_train": 3_247_526, "bytes_per_token_heldout": 3.4447},
    "train": {
        "n_parameters": 1_082_496,
        "n_steps": 3,
        "n_tokens": 12_288,
        "final_loss": 2.3456,
        "heldout_bpb": 1.61234,
    },
    "quantize": {
        "bpb_fp32": 1.60001,
        "bpb_int": 1.60012,
        "bpb_increase": 0.0000687,
        "top1_agreement": 0.9912,
        "n_eval_tokens": 40_960,
    },
    "seal": {"root": "ab" * 32, "n_bytes": 1_866_922, "lanes": [{"name": "FIELD", "n_bytes": 1_700_000}]},
}


def write_stage(out: Path, stage: str, **changes: Any) -> None:
    manifest = {
        "stage": stage,
        "key": "k",
        "recipe_digest": "cd" * 32,
        "recipe_name": "demo-1m",
        "inputs": {},
        "outputs": (Output(path=f"{stage}.bin", n_bytes=1_234_567, sha256="ef" * 32),),
        "root": f"{STAGES.index(stage)}f" * 32,
        "tools": {"sevenfold": "0.1.0", "tool": f"of-{stage}"},
        "seed": 7,
        "facts": FACTS[stage],
    }
    write_manifest(out / stage, Manifest(**(manifest | changes)))


def metric(step: int) -> bytes:
    row = {"step": step, "tokens": step * 4096, "loss": 8.0 / step, "learning_rate": 0.001, "grad_norm": 1.5}
    return json.dumps(row).encode() + b"\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run."""
    for stage in STAGES:
        write_stage(tmp_path, stage)
    (tmp_path / "train" / "metrics.jsonl").write_bytes(b"".join(map(metric, range(1, 120))))
    rows = [
        {"id": f"V{i}", "title": f"rule {i}", "status": "pass", "detail": f"detail {i}"} for i in range(8)
    ]
    write_json(tmp_path / "verification.json", {"ok": True, "path": "x", "root": "y", "rows": rows})
    write_json(tmp_path / "completions.json", [{"prompt": "def f(", "text": "x):\n    return x\n"}])
    return tmp_path


class Checker(HTMLParser):
    """Collects visible text and every attribute that a browser would load;
    refuses elements that do not nest.
    """

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "background"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                raise AssertionError(f"script attribute {name}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] != "style":
            self.words.append(data)


def check(data: bytes) -> Checker:
    checker = Checker()
    checker.feed(data.decode())
    checker.close()
    assert checker.stack == []
    assert not {"script", "iframe", "link", "img", "object", "embed"} & set(checker.tags)
    assert [load for load in checker.loads if not load.startswith("#")] == []
    assert {load[1:] for load in checker.loads} <= set(checker.ids)
    assert len(set(checker.ids)) == len(checker.ids)
    assert b"@import" not in data
    assert not re.search(rb"url\((?!#)", data)
    return checker


def text_of(out: Path) -> str:
    return " ".join("".join(check(write_report(out).read_bytes()).words).split())


def test_all_figures_are_there(out: Path) -> None:
    assert write_report(out) == out / "report.html"
    text = text_of(out)
    for figure in (
        "demo-1m",
        "verified with replay",
        "1.6123",
        "1.6001",
        "2.0084",
        "1,082,496",
        "1.87 MB",
        "ab" * 32,
        "99.12%",
        "+0.007%",
        "40,960",
        "PSF-2.0",
        "733",
        "11.57 MB",
        "duplicate",
        "LICENSE.txt",
        "V0",
        "V7",
        "detail 7",
        "def f(x):",
        "1,234,567",
        "FIELD",
        "cd" * 32,
        "seed 7",
        "of-quantize",
        "4f" * 32,
        "3.445",
        "2.3456",
    ):
        assert figure in text, figure
    assert "not run" not in text
    assert "million tokens" in text


def test_same_files_same_page(out: Path) -> None:
    first = write_report(out).read_bytes()
    assert write_report(out).read_bytes() == first


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_stage_is_said_to_be_missing(out: Path, stage: str) -> None:
    (out / stage / "manifest.json").unlink()
    assert f"Not run: {stage}." in text_of(out)


def test_an_empty_directory_still_gives_a_page(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    assert "no stage has run" in text
    for part in ("corpus: not run", "train: not run", "verify: not run", "verification not run", "None made"):
        assert part in text


@pytest.mark.parametrize("n_stages", range(len(STAGES)))
def test_a_run_in_progress(tmp_path: Path, n_stages: int) -> None:
    for stage in STAGES[:n_stages]:
        write_stage(tmp_path, stage)
    assert f"Not run: {', '.join(STAGES[n_stages:])}." in text_of(tmp_path)


def test_missing_figures_show_as_dashes(out: Path) -> None:
    for stage in STAGES:
        write_stage(out, stage, facts={})
    assert "Parameters-Sealed model-model.s7l" in text_of(out)


def test_a_failed_rule_is_not_called_verified(out: Path) -> None:
    for status, verdict in (("fail", "not verified"), ("skipped", "verified, 1 check(s) skipped")):
        rows = [
            {"id": "V6", "title": "t", "status": status, "detail": "d"},
            {"id": "V7", "title": "t", "status": "pass", "detail": ""},
        ]
        write_json(out / "verification.json", rows)
        text = text_of(out)
        assert verdict in text
        assert "verified with replay" not in text


HOSTILE = "<script>alert(1)</script><img src=x onerror=y>&amp;\"'</td></main>\x1b[31m\x00\ud800"


def test_content_is_text_wherever_it_appears(out: Path) -> None:
    group = FACTS["corpus"]["groups"][0] | {
        "source": HOSTILE,
        "licence": HOSTILE,
        "licence_evidence": [HOSTILE],
        "dropped": {HOSTILE: COUNT},
    }
    write_stage(
        out,
        "corpus",
        facts={"groups": [group], "heldout_gzip_bpb": HOSTILE},
        recipe_name=HOSTILE,
        tools={HOSTILE: HOSTILE},
    )
    write_stage(
        out,
        "seal",
        facts={"root": HOSTILE, "n_bytes": HOSTILE},
        outputs=(Output(path=HOSTILE, n_bytes=1, sha256=""),),
    )
    write_json(
        out / "verification.json", [{"id": HOSTILE, "title": HOSTILE, "status": HOSTILE, "detail": HOSTILE}]
    )
    write_json(out / "completions.json", [{"prompt": HOSTILE, "text": HOSTILE}])
    data = write_report(out).read_bytes()
    checker = check(data)
    assert (
        "".join(checker.words).count(
            "<script>alert(1)</script><img src=x onerror=y>&amp;\"'</td></main>\u241b[31m\u2400"
        )
        >= 12
    )
    assert b"\x1b" not in data


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_survives_escaping(name: str, value: str) -> None:
    checker = check(page.document(name, page.table(["head"], [[value]]), page.card(name, value, value)))
    shown = "".join(checker.words)
    assert shown.count(value.translate(page.UNPRINTABLE)) >= (3 if value else 0)


def test_half_a_line_of_a_killed_run_is_left_out_and_said(out: Path) -> None:
    log = out / "train" / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 120, "lo')
    assert "1 unreadable line(s) of the training log left out." in text_of(out)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json\n",
        b"[]\n3\n",
        b'{"step": 1}\n',
        b'{"tokens":1,"loss":NaN,"learning_rate":1,"grad_norm":1}\n',
    ],
)
def test_a_log_without_a_whole_line_draws_nothing(out: Path, data: bytes) -> None:
    (out / "train" / "metrics.jsonl").write_bytes(data)
    text = text_of(out)
    assert "million tokens" not in text
    assert ("unreadable line" in text) == bool(data)


def test_a_damaged_manifest_is_an_error_that_names_it(out: Path) -> None:
    (out / "train" / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match=r"train/manifest\.json: not a stage manifest"):
        write_report(out)
    assert not (out / "report.html").exists()


def test_without_matplotlib_the_rest_is_there(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = text_of(out)
    assert "No curves: matplotlib is not installed" in text
    assert "1,082,496" in text


def test_colours_follow_the_page_in_light_and_dark(out: Path) -> None:
    data = render(read_run(out)).decode()
    drawings = "".join(re.findall(r"<svg.*?</svg>", data, re.DOTALL))
    assert data.count("<svg") == 2
    assert "var(--accent)" in drawings
    assert not re.search(r"#[0-9a-fA-F]{6}\b", drawings)
    assert "prefers-color-scheme: dark" in data


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (1234567, "1,234,567"), (1.23456, "1.2346"), ("x", "x"), (True, "-"), (0, "0")],
)
def test_number(value: object, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (2_500_000_000, "2.50 GB")],
)
def test_size(value: object, expected: str) -> None:
    assert size(value) == expected


def test_percent() -> None:
    assert (percent(0.5, 0), percent(-0.0001, sign=True), percent(None)) == ("50%", "-0.010%", "-")


def test_the_report_imports_only_core() -> None:
    script = (
        "import sys, sevenfold.report.html\n"
        "rooms = {m.split('.')[1] for m in sys.modules if m.startswith('sevenfold.')}\n"
        "heavy = {'matplotlib', 'torch', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'{rooms} {heavy}' if rooms != {'report', 'core'} or heavy else 0)"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60
    )
