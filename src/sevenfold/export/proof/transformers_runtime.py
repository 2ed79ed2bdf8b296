"""Use `transformers` as a runtime. Its auto classes load the directory in FP32 without code of
ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sevenfold.export.store import Floats


class Transformers:
    """A loaded Hugging Face directory; see `runtimes.Runtime`."""

    name = "transformers"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer

    @classmethod
    def load(cls, directory: Path) -> Transformers | None:
        """Load it, or None when `transformers` is not installed.

        The network is not used.
        """
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            import transformers
        except ModuleNotFoundError:
            return None
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        return cls(model.eval(), transformers.AutoTokenizer.from_pretrained(directory))

    def open(self, path: Path, context: int) -> str:
        """Do nothing: the model is loaded already."""
        return f"transformers over {path.name}, context {context}"

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text without the token before it."""
        return [list(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def logits(self, ids: list[int]) -> Floats:
        """Return the logits after each id, float32 [T, V]."""
        with torch.no_grad():
            return np.asarray(self._model(torch.tensor([ids])).logits[0].numpy(), np.float32)

    def greedy(self, ids: list[int], steps: int) -> list[int]:
        """Return the most likely next token, `steps` times, over the model's own cache."""
        made: list[int] = []
        new, past = torch.tensor([ids]), None
        while len(made) < steps:
            with torch.no_grad():
                out = self._model(new, past_key_values=past, use_cache=True)
            past, new = out.past_key_values, out.logits[:, -1:].argmax(-1)
            made.append(int(new))
        return made
