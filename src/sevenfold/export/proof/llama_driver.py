"""Run llama.cpp for requests of one JSON line each. The Python of the interop environment runs this
file, which imports nothing of ours.

The `xllamacpp` wheel exports llama.cpp's C interface from its own library; ctypes calls it.
Requests (stdin), each answered by one line {"ok": ...} or {"error": text}:

    {"op": "open", "path", "context", "threads"} -> {"vocab", "description"}
    {"op": "tokenize", "texts": [text]} -> [[id]]
        No special token is added, and none is parsed.
    {"op": "logits", "ids", "out"} -> true
        Writes float32 [T, V] to the .npy file `out`.
    {"op": "greedy", "ids", "steps"} -> [id]
    {"op": "quantize", "type", "source", "weights", "out"} -> n_bytes
        Reads float32 [rows, columns] from the .npy file `source`, writes rows of that type.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

# The parameter structures of the C interface change with its version. Only these fields are set.
# Their offsets are checked against the defaults of the library, so another version is refused and
# not misread.
_CONTEXT = {"n_ctx": 0, "n_batch": 4, "n_ubatch": 8, "n_threads": 28, "n_threads_batch": 32}
_DEFAULTS = {0: 512, 4: 2048, 8: 512, 12: 1, 28: 4, 32: 4, 40: -1, 44: -1, 48: -1, 52: -1, 104: 1, 108: 1}
_FLASH, _TYPE_K, _TYPE_V = 52, 104, 108
_MODEL_DEFAULTS = {16: -1, 20: 1}
# With repacked weights llama.cpp would quantise the activations.
_EXTRA_BUFFERS = 74
_LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class _Blob(ctypes.Structure):
    """A structure that is passed by value. It is longer than each of the real ones, which does no
    harm.
    """

    _fields_ = [("bytes", ctypes.c_ubyte * 256)]

    def set(self, offset: int, value: int) -> None:
        ctypes.c_int32.from_buffer(self, offset).value = value

    def check(self, defaults: dict[int, int]) -> None:
        for offset, value in defaults.items():
            found = ctypes.c_int32.from_buffer(self, offset).value
            if found != value:
                raise RuntimeError(
                    f"this llama.cpp has other parameters ({found} at {offset}); use the pinned one"
                )


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


def _library() -> Any:
    import xllamacpp

    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "llama_model_default_params": (_Blob, []),
        "llama_context_default_params": (_Blob, []),
        "llama_model_load_from_file": (c_void_p, [c_char_p, _Blob]),
        "llama_init_from_model": (c_void_p, [c_void_p, _Blob]),
        "llama_model_get_vocab": (c_void_p, [c_void_p]),
        "llama_model_desc": (c_int32, [c_void_p, c_char_p, c_size_t]),
        "llama_vocab_n_tokens": (c_int32, [c_void_p]),
        "llama_vocab_bos": (c_int32, [c_void_p]),
        "llama_vocab_eos": (c_int32, [c_void_p]),
        "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
        "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
        "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
        "llama_batch_init": (_Batch, [c_int32, c_int32, c_int32]),
        "llama_batch_free": (None, [_Batch]),
        "llama_decode": (c_int32, [c_void_p, _Batch]),
        "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
        "llama_get_memory": (c_void_p, [c_void_p]),
        "llama_memory_clear": (None, [c_void_p, c_bool]),
        "llama_free": (None, [c_void_p]),
        "llama_model_free": (None, [c_void_p]),
        "llama_log_set": (None, [_LOG, c_void_p]),
        "ggml_quantize_chunk": (c_size_t, [c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Driver:
    """A driver that holds one loaded model at a time."""

    def __init__(self) -> None:
        self.lib = _library()
        self.log: list[str] = []
        self._callback = _LOG(lambda _level, text, _data: self.log.append(text.decode("utf-8", "replace")))
        self.lib.llama_log_set(self._callback, None)
        self.model: int | None = None
        self.context: int | None = None
        self.vocab: int | None = None
        self.n_vocab = 0

    def open(self, path: str, context: int, threads: int) -> dict[str, Any]:
        """Load a file with F32 keys and values and without flash attention, which is the most exact
        setting of llama.cpp.
        """
        self.close()
        parameters = self.lib.llama_model_default_params()
        parameters.check(_MODEL_DEFAULTS)
        parameters.bytes[_EXTRA_BUFFERS] = 0
        self.log.clear()
        self.model = self.lib.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            told = [line.strip() for line in self.log if "error" in line.lower()]
            raise RuntimeError(f"llama.cpp does not load it: {' '.join(told)[:300]}")
        settings = self.lib.llama_context_default_params()
        settings.check(_DEFAULTS)
        for name, value in zip(
            _CONTEXT, (context, context, min(512, context), threads, threads), strict=True
        ):
            settings.set(_CONTEXT[name], value)
        for offset in (_FLASH, _TYPE_K, _TYPE_V):
            settings.set(offset, 0)
        self.context = self.lib.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context: {' '.join(self.log[-3:])[:300]}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.vocab)
        text = ctypes.create_string_buffer(200)
        self.lib.llama_model_desc(self.model, text, 200)
        return {"vocab": self.n_vocab, "description": text.value.decode()}

    def close(self) -> None:
        """Free the model."""
        if self.context:
            self.lib.llama_free(self.context)
        if self.model:
            self.lib.llama_model_free(self.model)
        self.model = self.context = None

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text."""
        found = []
        for text in texts:
            raw = text.encode()
            room = len(raw) + 8
            ids = (c_int32 * room)()
            count = self.lib.llama_tokenize(self.vocab, raw, len(raw), ids, room, False, False)
            if count < 0:
                raise RuntimeError(f"llama_tokenize gives {count} for {text[:40]!r}")
            found.append(list(ids[:count]))
        return found

    def roles(self) -> dict[str, Any]:
        """Return the tokens that begin and end a text, as llama.cpp read them from the file."""
        ends = [i for i in range(self.n_vocab) if self.lib.llama_vocab_is_eog(self.vocab, i)]
        return {
            "bos": self.lib.llama_vocab_bos(self.vocab),
            "eos": self.lib.llama_vocab_eos(self.vocab),
            "adds_bos": self.lib.llama_vocab_get_add_bos(self.vocab),
            "ends": ends,
        }

    def _decode(self, ids: list[int], start: int, every: bool) -> np.ndarray:
        """Return the logits of all positions or of the last one, for ids that follow `start`
        others. float32 [T or 1, V].
        """
        n = len(ids)
        batch = self.lib.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = every or i == n - 1
        status = self.lib.llama_decode(self.context, batch)
        self.lib.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode gives {status}")
        rows = range(n) if every else [n - 1]
        return np.stack(
            [
                np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, i), (self.n_vocab,)).copy()
                for i in rows
            ]
        )

    def logits(self, ids: list[int], out: str) -> bool:
        """Write the logits after each id to a file."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        np.save(out, self._decode(ids, 0, True))
        return True

    def greedy(self, ids: list[int], steps: int) -> list[int]:
        """Return the most likely next token, `steps` times, one at a time."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        made: list[int] = []
        new, start = ids, 0
        while len(made) < steps:
            logits = self._decode(new, start, False)
            start += len(new)
            new = [int(logits[0].argmax())]
            made += new
        return made

    def quantize(self, type: int, source: str, weights: str | None, out: str) -> int:
        """Write the rows of a float matrix in one of the types of llama.cpp."""
        values = np.ascontiguousarray(np.load(source), np.float32)
        importance = np.ascontiguousarray(np.load(weights), np.float32) if weights else None
        room = np.zeros(values.nbytes, np.uint8)
        rows, columns = values.shape
        pointer = importance.ctypes.data if importance is not None else None
        size = self.lib.ggml_quantize_chunk(
            type, values.ctypes.data, room.ctypes.data, 0, rows, columns, pointer
        )
        np.save(out, room[:size])
        return int(size)


def main() -> None:
    """Answer requests until the input ends."""
    try:
        driver = Driver()
    except Exception as error:  # noqa: BLE001 - every failure is an answer, shown in one line
        print(json.dumps({"error": str(error)}), flush=True)
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(driver, request.pop("op"))(**request)}
        except Exception as error:  # noqa: BLE001 - as above
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
