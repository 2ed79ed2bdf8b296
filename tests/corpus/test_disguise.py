"""Solutions of benchmarks are found in what people make of them: methods, fences,
notebooks, other characters.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from sevenfold.corpus.document import SourceDocument, SourceOrigin
from sevenfold.corpus.steps.decontaminate import _common_functions, _disguised_functions
from sevenfold.corpus.steps.working_document import WorkingDocument
from sevenfold.corpus.text import disguise
from sevenfold.corpus.text.contamination_index import ContaminationIndex, build, read

ORIGIN = SourceOrigin(source="s", version="", licence="MIT", licence_evidence="", domain="code")


def as_method(code: str) -> str:
    return "class Solution:\n" + textwrap.indent(re.sub(r"def (\w+)\(", r"def \1(self, ", code), "    ")


def with_default(code: str) -> str:
    return re.sub(r"(def \w+\([^()\[\]]*\w)(\s*\)\s*(?:->[^:]*)?:)", r"\1=None\2", code, count=1)


DISGUISES: dict[str, tuple[str, Callable[[str], str]]] = {
    "as it is": ("python", lambda code: code),
    "method": ("python", as_method),
    "class method": (
        "python",
        lambda code: as_method(code).replace("(self", "(cls").replace("    def", "    @property\n    def"),
    ),
    "default argument": ("python", with_default),
    "method with default": ("python", lambda code: as_method(with_default(code))),
    "fence": ("markdown", lambda code: f"# Title\n\nText.\n\n```python\n{code}\n```\n\nMore.\n"),
    "tilde fence": ("markdown", lambda code: f"~~~~py\n{code}\n~~~~\n"),
    "fence in a list": (
        "markdown",
        lambda code: "- item\n\n" + textwrap.indent(f"```\n{code}\n```", "    ") + "\n",
    ),
    "method in a fence": ("markdown", lambda code: f"```\n{as_method(code)}\n```\n"),
    "notebook": (
        "unknown",
        lambda code: json.dumps({"cells": [{"source": code.splitlines(True)}], "nbformat": 4}),
    ),
    "notebook text": ("json", lambda code: json.dumps({"cells": [{"source": f"```\n{code}\n```"}]})),
    "no-break spaces": ("python", lambda code: code.replace("    ", "\u00a0\u00a0\u00a0\u00a0")),
    "full width": ("python", lambda code: code.replace("(", "\uff08").replace(")", "\uff09")),
    "look-alikes": ("python", lambda code: code.replace("e", "\u0435").replace("d\u0435f ", "def ")),
    "invisible": ("python", lambda code: code.replace("return", "re\u200bturn").replace("def", "\u2060def")),
    "windows lines": ("python", lambda code: code.replace("\n", "\r\n")),
    "tabs": ("python", lambda code: code.replace("    ", "\t")),
    "async": ("python", lambda code: code.replace("def ", "async def ")),
    "decorated": ("python", lambda code: "@cache\n" + code.replace("\ndef ", "\n@cache\ndef ")),
    "string": ("python", lambda code: f"SOURCE = '''\n{code}\n'''\n" if "'''" not in code else f"{code}"),
    "doctest": (
        "restructuredtext",
        lambda code: "Text\n\n" + re.sub(r"(?m)^", "    ... ", code).replace("... ", ">>> ", 1) + "\n",
    ),
    "quoted": ("markdown", lambda code: re.sub(r"(?m)^", "> ", f"```\n{code}\n```") + "\n"),
    "comments": ("python", lambda code: re.sub(r"(?m)^([ \t]*)return", r"\1# a note\n\1return", code)),
}


def data_directory() -> Path:
    root = Path(os.environ.get("SEVENFOLD_DATA", Path(__file__).parents[3] / "shared" / "data")) / "eval"
    if not (root / "humaneval").is_dir():
        pytest.skip("no evaluation sets under $SEVENFOLD_DATA")
    return root


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> ContaminationIndex:
    path = tmp_path_factory.mktemp("eval") / "x.s7eh"
    return read(path, str(build(data_directory(), path)["sha256"]))  # type: ignore[index]


@pytest.fixture(scope="module")
def solutions(known: ContaminationIndex) -> list[str]:
    """Programs of HumanEval and MBPP that have a function large enough to be hashed."""
    root, programs = data_directory(), []
    for file in sorted(root.glob("humaneval/*.jsonl.gz")):
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        programs += [row["prompt"] + row["canonical_solution"] for row in rows]
    for line in (root / "mbpp" / "mbpp.jsonl").read_text().splitlines():
        programs.append(json.loads(line)["code"].replace("\r\n", "\n"))
    # Their documentation strings are not what is looked for.
    bare = [re.sub(r'\s*(?:"""|\'\'\')(?s:.*?)(?:"""|\'\'\')', "", program) for program in programs]
    return [program for program in bare if hits(known, "python", program)][::4]


def hits(known: ContaminationIndex, language: str, text: str) -> bool:
    data = text.encode()
    document = WorkingDocument(SourceDocument(ORIGIN, "a", len(data), "", data), data, language, "code")
    return bool(
        _common_functions(document, known) | _disguised_functions(document, disguise.plain(text), known)
    )


@pytest.mark.parametrize(("language", "disguised"), DISGUISES.values(), ids=DISGUISES)
def test_a_solution_in_disguise_is_found(
    language: str, disguised: Callable[[str], str], known: ContaminationIndex, solutions: list[str]
) -> None:
    assert len(solutions) > 100
    missed = [code for code in solutions if not hits(known, language, disguised(code))]
    # A default behind an annotation is told by the 13-grams alone.
    assert len(missed) <= len(solutions) // 28, missed[0]


def test_other_code_is_not_a_solution(known: ContaminationIndex) -> None:
    import sevenfold.core

    files = sorted(Path(sevenfold.core.__file__).parent.rglob("*.py"))
    assert not [file.name for file in files if hits(known, "python", file.read_text())]


def test_plain_text_stays() -> None:
    assert disguise.plain("def f(x): return x") == "def f(x): return x"
    assert disguise.plain("na\u00efve\u200b \u0430") == "na\u00efve a"
