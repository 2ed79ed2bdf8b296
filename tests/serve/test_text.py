"""Stop strings: found where they are, however the text was cut, and never shown in part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sevenfold.serve.batching.text import StopFinder

letters = st.text("ab\n", max_size=30)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4)


def expected(text: str, wanted: list[str]) -> tuple[str, bool]:
    """The text up to the earliest stop string that is complete first."""
    for end in range(len(text) + 1):
        ends = [stop for stop in wanted if text[:end].endswith(stop)]
        if ends:
            return text[: end - len(max(ends, key=len))], True
    return text, False


@given(letters, stops, st.data())
def test_any_cut_gives_the_text_before_the_first_stop(
    text: str, wanted: list[str], data: st.DataObject
) -> None:
    finder, given_, at = StopFinder(wanted), "", 0
    whole, is_found = expected(text, wanted)
    # One character at a time: the first stop that is complete ends the text.
    for at in range(len(text)):
        given_ += finder.feed(text[at])
        assert whole.startswith(given_)
        if finder.found is not None:
            break
    if finder.found is None:
        given_ += finder.close()
    assert (given_, finder.found is not None) == (whole, is_found)


@given(letters, st.text("ab\n", min_size=1, max_size=4), st.data())
def test_with_one_stop_the_pieces_do_not_matter(text: str, stop: str, data: st.DataObject) -> None:
    finder, given_, at = StopFinder([stop]), "", 0
    while at < len(text) and finder.found is None:
        n = data.draw(st.integers(1, 5))
        given_ += finder.feed(text[at : at + n])
        at += n
    if finder.found is None:
        given_ += finder.close()
    assert given_ == text.split(stop)[0]
    assert (finder.found is not None) == (stop in text)
