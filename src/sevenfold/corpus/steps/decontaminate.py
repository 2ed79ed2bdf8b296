"""Step `benchmark`: keep text and functions of evaluation sets out of the training data (C14).

A 13-gram of words finds copies in any layout. The hash of a function without its names finds copies
with renamed variables. A document that collides is dropped, and the findings name the set and the
number of hits.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument
from sevenfold.corpus.text import disguise, functions
from sevenfold.corpus.text.contamination_index import NGRAM, ContaminationIndex, is_in
from sevenfold.corpus.text.grammars import reader
from sevenfold.corpus.text.ngrams import unique, word_hashes


def benchmark(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Refuse a document with `corpus.steps.decontaminate.hits` 13-grams of the sets, or with one of
    their functions.
    """
    known, wanted = settings.eval_hashes, settings.spec.decontaminate
    if known is None or wanted is None:
        return None
    grams = known.common_ngrams(text.words_W)
    decoded = text.data.decode("utf-8", "replace")
    plain = disguise.plain(decoded)
    if plain != decoded:
        others = known.common_ngrams(word_hashes(plain.encode("utf-8", "replace")))
        grams = unique(np.concatenate((grams, others)))
    found = _common_functions(text, known) | _disguised_functions(text, plain, known)
    if not len(grams) and not found:
        return None
    for name, hashes in known.sets.items():
        if n := int(is_in(grams, hashes["ngrams"]).sum()):
            text.note("benchmark", name, f"{NGRAM}-grams", n)
        if n := len(found.intersection(hashes["functions"].tolist())):
            text.note("benchmark", name, "functions", n)
    return "benchmark" if found or len(grams) >= wanted.hits else None


def _disguised_functions(text: WorkingDocument, plain: str, known: ContaminationIndex) -> set[int]:
    """Return the functions of the sets that occur in a document as methods, in fences, cells,
    doctests or strings.
    """
    shapes, whole = known.function_hashes
    if "def " not in plain or not whole:
        return set()
    found: set[int] = set()
    is_python = text.language == "python"
    # A clean program was read before. This reads an ASCII program with its methods as functions.
    fast = reader("python")
    is_read = is_python and fast is not None and fast.is_clean(text.data)
    is_program = is_python and not (is_read and text.data.isascii())
    for program in disguise.programs(plain, is_program=is_program, is_prose=not is_python):
        for form in dict.fromkeys((program, disguise.as_function(program))):
            data = form.encode("utf-8", "replace")
            if not (is_read and data == text.data):
                found |= _functions_of(form, data, shapes)
    return found & whole


def _functions_of(program: str, data: bytes, shapes: Set[int]) -> set[int]:
    """Return the hashes of the Python functions in a text whose shape is one of `shapes`.

    `data` is the text in UTF-8. A text that is not a clean program is read function by function.
    Repairing it as a whole takes the parser ten times as long, and the text between functions does
    not matter.
    """
    found = functions.of_shapes(data, "python", shapes)
    if found is not None:
        return found
    return {
        hashed
        for definition in disguise.definitions(program)
        for hashed in functions.in_python(definition.encode("utf-8", "replace"), shapes)
    }


def _common_functions(text: WorkingDocument, known: ContaminationIndex) -> set[int]:
    shapes, whole = known.function_hashes
    if text.language not in functions.QUERIES or not whole:
        return set()
    found = functions.of_shapes(text.data, text.language, shapes)
    if found is not None:
        return found & whole
    nodes = functions.functions(text.tree(text.language), text.language)
    found = {
        hashed
        for node in nodes
        if functions.statement_signature(node) in shapes
        for hashed in functions.forms(node)
    }
    return found & whole
