"""The page about a corpus adds up to its manifest, and escapes what sources are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from sevenfold.core.manifest import Manifest, write_manifest
from sevenfold.report.corpus import MAX_SOURCES, write_corpus_report
from sevenfold.report.corpus_plot import DROPPED, MAX_BARS, OTHERS, _mix, bars, kept_by_kind

ROWS = [
    {
        "domain": "code",
        "language": f"<l{n}>",
        "licence": "MIT",
        "kept": {"n_documents": 1, "n_bytes": 100 + n},
        "dropped": {"duplicate": {"n_documents": 1, "n_bytes": 7}},
    }
    for n in range(20)
]
GROUPS = [
    {
        "source": source, "version": "1", "licence": "MIT", "domain": domain, "licence_evidence": [],
        "seen": {"n_documents": 4, "n_bytes": 2000 if kept else 1000},
        "train": {"n_documents": 1, "n_bytes": kept},
        "heldout": {"n_documents": 1, "n_bytes": 10},
        "dropped": {"minified": {"n_documents": 2, "n_bytes": 990 - kept}},
    }
    for source, domain, kept in [("npm:a", "code", 590),
        ("synthetic", "math", 190)] + [(f"deb:{n}", "code", 0) for n in range(50)]
]  # fmt: skip
FACTS = {
    "n_seen": 40, "n_kept": 20, "n_train": 19, "n_heldout": 1, "bytes_train": 2000, "bytes_heldout": 190,
    "dropped": {"duplicate": 20}, "languages": ROWS, "groups": GROUPS, "mix": {"code": 0.5, "math": 0.5},
    "steps": ["decode"], "findings": [{"step": "s", "kind": "k", "n": 3}],
}  # fmt: skip


def test_bars_add_up_and_the_smallest_are_one() -> None:
    shown = bars(ROWS, "language")
    assert len(shown) == MAX_BARS
    assert list(shown)[-1] == OTHERS
    assert sum(parts.total() for parts in shown.values()) == sum(107 + n for n in range(20))
    assert bars(ROWS, "licence")["MIT"][DROPPED] == 140


def test_page_and_plot(tmp_path: Path) -> None:
    assert write_corpus_report(tmp_path) is None
    (tmp_path / "corpus").mkdir()
    manifest = Manifest(
        stage="corpus", key="", recipe_digest="", recipe_name="tiny", inputs={}, outputs=(), root="ab" * 32,
        tools={}, seed=1, facts=FACTS
    )  # fmt: skip
    write_manifest(tmp_path / "corpus", manifest)
    page = write_corpus_report(tmp_path)
    assert page is not None
    text = page.read_text()
    assert "&lt;l19&gt;" in text
    assert "<l19>" not in text
    assert "50.00%" in text
    assert kept_by_kind(GROUPS) == {False: {"code": 600 + 50 * 10}, True: {"math": 200}}
    assert "15.4% of what was kept" in text  # 200 of 1300 are synthetic
    assert '<td>math</td><td class="number">50.0%</td><td class="number">15.4%</td>' in text
    assert "400 B of text follow the target" in text  # 200 of mathematics, and as much code
    assert "<td>npm:a</td>" in text
    assert "minified 20.0%" in text
    assert f"{52 - MAX_SOURCES} more" in text
    assert (tmp_path / "corpus.png").read_bytes().startswith(b"\x89PNG")
    first = page.read_bytes(), (tmp_path / "corpus.png").read_bytes()
    write_corpus_report(tmp_path)
    assert first == (page.read_bytes(), (tmp_path / "corpus.png").read_bytes())


def test_every_bar_of_the_mix_ends_inside_the_picture() -> None:
    axes = Figure().subplots()
    _mix(axes, FACTS, ["code", "math"], {"code": "red", "math": "blue"})
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == pytest.approx(100 * 1100 / 1300)  # per cent: code of what was kept
    assert max(ends) < axes.get_xlim()[1] < 1.2 * max(ends)
