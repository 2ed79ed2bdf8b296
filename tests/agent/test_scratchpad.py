"""Outlines hold the facts that Python's own parser finds, each with its bytes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sevenfold.agent.memory import scratchpad
from sevenfold.agent.memory.scratchpad import CALLS, CONSTANT, DEFINITION, IMPORT, OUTLINES, compress
from sevenfold.core.errors import UsageError
from sevenfold.corpus.text.grammars import available

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "sevenfold" / "core").glob("*.py"))
needs_grammar = pytest.mark.skipif(not available("python"), reason="tree-sitter is not installed")
PROGRAMS = {
    "bash": (b"f() {\n  ls | wc\n}\n", "f", "ls, wc"),
    "c": (b"#include <stdio.h>\nint f(int a) {\n  return g(a);\n}\n", "f", "g"),
    "cpp": (b"namespace n {\nint C::f(int a) { return x.g(a); }\n}\n", "n.C::f", "g"),
    "go": (b'package p\nimport "os"\nfunc F(a int) int {\n\treturn os.Exit(a)\n}\n', "F", "Exit"),
    "java": (b"import a.B;\nclass C {\n  int f(int a) { return g(a); }\n}\n", "C.f", "g"),
    "javascript": (b'import x from "y";\nclass C {\n  f(a) { return new G(a); }\n}\n', "C.f", "G"),
    "python": (b"import x\nclass C:\n    async def f(self, a=1): return x.g(a)\n", "C.f", "g"),
    "rust": (b"use a::b;\nimpl C {\n  fn f(&self) -> u8 { g!(1); self.h() }\n}\n", "C.f", "g, h"),
    "typescript": (b'import x from "y";\nfunction f(a: number): void { g(a); }\n', "f", "g"),
}


@needs_grammar
@pytest.mark.parametrize("language", sorted(OUTLINES))
def test_every_language(language: str) -> None:
    text, name, calls = PROGRAMS[language]
    pad = compress(text, language)
    assert pad.read_by == "tree-sitter"
    names = {fact.name: fact for fact in pad.facts if fact.kind == DEFINITION}
    assert name in names, names
    edges = {fact.name: fact.detail for fact in pad.facts if fact.kind == CALLS}
    assert edges[name] == calls
    if language not in ("bash", "cpp"):
        assert [fact for fact in pad.facts if fact.kind == IMPORT]


@needs_grammar
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_facts_are_those_of_the_parser_of_python(path: Path) -> None:
    text = path.read_bytes()
    pad = compress(text, "python")
    nodes = list(ast.walk(ast.parse(text)))
    definitions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    found = [fact for fact in pad.facts if fact.kind == DEFINITION]
    assert sorted(fact.name.rsplit(".", 1)[-1] for fact in found) == sorted(n.name for n in definitions)
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    assert sum(fact.kind == IMPORT for fact in pad.facts) == len(imports)
    for fact in pad.facts:
        cut = text[fact.start : fact.end].decode()
        if fact.kind in (DEFINITION, IMPORT, CONSTANT):
            assert " ".join(cut.split()).startswith(fact.detail.removesuffix("...").strip()), fact
        assert text[: fact.start].count(b"\n") + 1 == fact.line
    assert len(pad.text.encode()) < len(text)
    assert compress(text, "python") == pad


@needs_grammar
def test_a_budget_drops_calls_first() -> None:
    text = (ROOT / "src" / "sevenfold" / "core" / "files.py").read_bytes()
    whole = compress(text, "python")
    for budget in (0, 1, 300, 900, 1400, 10_000):
        pad = compress(text, "python", budget=budget)
        assert len(pad.text.encode()) <= budget
        assert pad.n_dropped + len(pad.facts) == len(whole.facts)
        assert set(pad.facts) <= set(whole.facts)
        if any(fact.kind == CALLS for fact in pad.facts):
            assert sum(f.kind == DEFINITION for f in pad.facts) == sum(
                f.kind == DEFINITION for f in whole.facts
            )
    assert whole.value()["facts_dropped"] == 0


def test_a_text_without_a_grammar_is_read_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    pad = compress(b"# One\n\ntext\n\n## Two\n", "markdown")
    assert (pad.read_by, [fact.detail for fact in pad.facts]) == ("lines", ["# One", "## Two"])
    monkeypatch.setattr(scratchpad, "available", lambda _: False)
    pad = compress(PROGRAMS["python"][0], "python")
    assert pad.read_by == "lines"
    assert [fact.detail for fact in pad.facts] == ["class C:", "async def f(self, a=1): return x.g(a)"]


def test_bad_input_is_named() -> None:
    with pytest.raises(UsageError, match="no UTF-8 at byte 1"):
        compress(b"a\xff", "python")
    with pytest.raises(UsageError, match="budget -1"):
        compress(b"a", "python", budget=-1)
    assert compress(b"", "python").facts == ()


@needs_grammar
def test_deep_and_broken_programs() -> None:
    deep = b"(" * 5000 + b")" * 5000
    assert compress(deep, "python").facts == ()
    nested = b"".join(b" " * i + b"def f%d():\n" % i for i in range(100)) + b" " * 100 + b"pass\n"
    assert len([f for f in compress(nested, "python").facts if f.kind == DEFINITION]) == 100
    compress(b"def f(:\n class\n import \n\x0c", "python")
