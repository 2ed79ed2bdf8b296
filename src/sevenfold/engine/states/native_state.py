"""The state of a native session of hybrid attention, as bytes and as a file.

A file holds what a session has read, so that a long prompt is read once. It is bound to the root of
the model, the version of the law and the width of the codes, and its digest is checked before a
byte of it is used.

    8 bytes magic, 32 root, u16 law, u16 kv_bits, u32 zero, 32 SHA-256 of all before and the state,
    then the state (native/engine/s7.h)
"""

from __future__ import annotations

import hashlib
import struct
from ctypes import byref, c_int64, c_void_p
from pathlib import Path

import numpy as np

from sevenfold.core.errors import GateError
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.numbers.tables import HYBRID_LAW_VERSION
from sevenfold.engine.native import NativeEngine, NativeSession, check_status, open_library

MAGIC = b"S7STATE\x01"
_HEAD = struct.Struct("<8s32sHHI")
_SHAPE, _RANGE = 2, 3


def save(session: NativeSession) -> bytes:
    """Return the state of a session.

    Raises GateError for causal attention, and for an empty or a closed session.
    """
    library, n_bytes = open_library(), c_int64()
    with session.lock:
        if session.engine.model.shape.hybrid is None or not session.held():
            raise GateError(
                "only a session of hybrid attention that has read a token has a state to keep",
                remedy="read a prompt first, with a model of law version 2",
            )
        status = library.s7_session_save(session.handle, None, 0, byref(n_bytes))
        check_status(library, status, "save a session")
        state = np.empty(n_bytes.value, np.uint8)
        status = library.s7_session_save(session.handle, state.ctypes.data, state.size, byref(n_bytes))
        check_status(library, status, "save a session")
    return state.tobytes()


def load(engine: NativeEngine, state: bytes) -> NativeSession:
    """Return a session with a state that `save` gave.

    Raises:
        GateError: bytes that are no state of this model.
        StorageError: there is no memory.
    """
    library, handle, held = open_library(), c_void_p(), np.frombuffer(state, np.uint8)
    status = library.s7_session_load(engine.handle, held.ctypes.data, held.size, byref(handle))
    if status in (_SHAPE, _RANGE):
        raise GateError("the bytes are no state of this model", remedy="read the prompt again")
    check_status(library, status, "load a session")
    return NativeSession(engine, handle)


def write_state(path: Path, session: NativeSession, root: str) -> None:
    """Write the state of a session of the model with this root, whole or not at all.

    Raises GateError as `save`, StorageError when the disk refuses.
    """
    state, bits = save(session), session.engine.model.shape.kv_bits
    head = _HEAD.pack(MAGIC, bytes.fromhex(root), HYBRID_LAW_VERSION, bits, 0)
    write_bytes(path, head + hashlib.sha256(head + state).digest() + state)


def read_state(path: Path, engine: NativeEngine, root: str) -> NativeSession:
    """Return a session with the state in a file.

    Raises:
        GateError: the file is damaged, or of another model, law or width of codes.
        StorageError: it cannot be read.
    """
    data = read_bytes(path)
    head, digest, state = data[: _HEAD.size], data[_HEAD.size : _HEAD.size + 32], data[_HEAD.size + 32 :]

    def refused(what: str) -> GateError:
        return GateError(what, where=str(path), remedy="read the prompt again and write another state")

    if len(data) < _HEAD.size + 32 or head[: len(MAGIC)] != MAGIC:
        raise refused("the file is no state of a session")
    if hashlib.sha256(head + state).digest() != digest:
        raise refused("the state was changed: it does not hash to its digest")
    _, found, law, bits, _ = _HEAD.unpack(head)
    if found.hex() != root:
        raise refused(f"the state is of the model {found.hex()[:16]}, not of {root[:16]}")
    if law != HYBRID_LAW_VERSION:
        raise refused(f"the state is of version {law} of the law, not of {HYBRID_LAW_VERSION}")
    if bits != engine.model.shape.kv_bits:
        raise refused(
            f"the state has codes of {bits} bits, this model is open with {engine.model.shape.kv_bits}"
        )
    return load(engine, state)
