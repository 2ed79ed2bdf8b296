"""Build the text of a growing answer: whole characters, ended by stop strings.

Text that could still become a stop string is held back. A stream therefore never shows a part of
one, and its pieces joined are the text of the same request without a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.tokenizer.codec import Tokenizer


class StopFinder:
    """Finds the first stop string in a text that arrives in pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found: str | None = None

    def feed(self, piece: str) -> str:
        """Add a piece and return the text that can no longer be part of a stop string."""
        if not self._stops:
            return piece
        text, self._held = self._held + piece, ""
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            # Take the earliest stop string; of several at one place, the longest.
            at, _, self.found = min(places)
            return text[:at]
        keep = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest end of `text` that is a beginning of `stop`."""
        most = min(len(text), len(stop) - 1)
        return next((n for n in range(most, 0, -1) if stop.startswith(text[-n:])), 0)

    def close(self) -> str:
        """Return the text that was held back, when nothing follows."""
        rest, self._held = self._held, ""
        return rest


class AnswerText:
    """The text of one sample. It takes ids and returns released text."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._stream = tokenizer.stream()
        self._finder = StopFinder(stops)
        self.text = ""
        # The number of characters so far, held back or not. The next token begins there.
        self.n_given = 0

    @property
    def stop(self) -> str | None:
        """Return the stop string that ended the text; None while there is none."""
        return self._finder.found

    def feed(self, token: int) -> str:
        """Return the text that this token releases."""
        return self._release(self._stream.feed(token))

    def feed_all(self, tokens: Sequence[int]) -> str:
        """Return the text that these tokens release together."""
        return self._release(self._stream.feed_all(tokens))

    def close(self) -> str:
        """Return the rest of the text: the end of an answer that no stop string ended."""
        if self.stop is not None:
            return ""
        piece = self._release(self._stream.close())
        if self.stop is None:
            rest = self._finder.close()
            self.text += rest
            piece += rest
        return piece

    def _release(self, given: str) -> str:
        self.n_given += len(given)
        piece = self._finder.feed(given)
        self.text += piece
        return piece
