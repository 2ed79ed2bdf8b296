"""Text of an answer as it grows: whole characters, and stop strings that end it.

What might still become a stop string is held back, so a stream never shows a part of one, and the
pieces of a stream put together are the text of the same request without a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.tokenizer.codec import Tokenizer


class StopFinder:
    """Finds the first stop string in a text that comes in pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found: str | None = None

    def feed(self, piece: str) -> str:
        """Return the text that no stop string can take back any more."""
        if not self._stops:
            return piece
        text, self._held = self._held + piece, ""
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            # The earliest one; of several at one place the longest.
            at, _, self.found = min(places)
            return text[:at]
        keep = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest end of `text` that begins `stop`."""
        most = min(len(text), len(stop) - 1)
        return next((n for n in range(most, 0, -1) if stop.startswith(text[-n:])), 0)

    def close(self) -> str:
        """Return what was held back, when nothing follows."""
        rest, self._held = self._held, ""
        return rest


class AnswerText:
    """The text of one sample: ids in, released text out."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._stream = tokenizer.stream()
        self._finder = StopFinder(stops)
        self.text = ""
        # Characters that the model gave so far, held back or not: where the next token begins.
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
