"""Changed files for readers to disagree about.

Payloads are changed by bytes and by values; digests, seal and root around them are put right.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from build_attacks import ATTACKS, Parts, build
from packing import canonical, pack_file, pack_sealed

from sevenfold.artifact import Artifact, parse_artifact
from sevenfold.core.hashing import Json

TEXTS = (
    b'"', b"{", b"[", b"]", b"}", b",", b":", b"0", b"-0", b"1e999", b"1.0", b"1.00", b"1E5", b"null",
    b"true",
    b"\\ud800", b"\\ud83d\\ude00", b"\\u00e9", b"\xc3\xa9", b"\xff", b"\0", b" ", b"\\/", b"\x7f", b"\\u007f",
    b'"kind":"seal"', b'"a":1,', b"9" * 20, b"0.1", b"5e-324", b"1e16", b"1e+16", b"\t",
)  # fmt: skip
VALUES: tuple[Json, ...] = (
    None, True, False, 0, 1, -1, 3, 10**30, 1.5, 1e300, 0.0, -0.0, "", "x", "LANE", "FIELD", "COMPUTE",
    "CONTROL",
    "\U0001f600\u00e9\x7f\n\"\\", [], {}, [1], {"a": [{}]}, ["LANE"], "0" * 64, [[]], "store FIELD",
)  # fmt: skip
KEYS = ("kind", "op", "fold", "writes", "a", "\u00e9", "change", "domain")
FLAGS = (0, 1, 5, 0x81, 0x85)


def places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def change_value(rng: random.Random, value: Json) -> Json:
    """One or two places of a JSON value replaced, removed or added."""
    found = [path for path in places(value) if path]
    for path in rng.choices(found, k=rng.randint(1, 2)):
        owner, new, how = value, copy.deepcopy(rng.choice(VALUES)), rng.random()
        try:
            for key in path[:-1]:
                owner = owner[key]
            if how < 0.5:
                owner[path[-1]] = new
            elif how < 0.7:
                del owner[path[-1]]
            elif isinstance(owner, list):
                owner.insert(rng.randrange(len(owner) + 1), new)
            elif isinstance(owner, dict):
                owner[rng.choice(KEYS)] = new
        except (KeyError, IndexError, TypeError):
            # The first change took the place of the second away.
            continue
    return value


def change_bytes(rng: random.Random, payload: bytes) -> bytes:
    data, at = bytearray(payload), rng.randrange(len(payload) + 1)
    data[at : at + rng.randint(0, 4)] = (
        rng.choice(TEXTS) if rng.random() < 0.7 else rng.randbytes(rng.randint(0, 4))
    )
    return bytes(data)


def change_lanes(rng: random.Random, lanes: list[tuple[int, bytes]]) -> None:
    index, how = rng.randrange(len(lanes)), rng.random()
    lane_id, payload = lanes[index]
    if how < 0.45 and lane_id >= 3:
        try:
            value = change_value(rng, json.loads(payload))
            plain = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode()
            lanes[index] = lane_id, canonical(value) if rng.random() < 0.7 else plain
        except (ValueError, TypeError):
            # A change before this one left no JSON.
            return
    elif how < 0.85:
        lanes[index] = lane_id, change_bytes(rng, payload)
    elif how < 0.9:
        lanes.insert(rng.randrange(len(lanes) + 1), lanes[index])
    elif how < 0.95 and len(lanes) > 1:
        del lanes[index]
    else:
        lanes[index] = rng.randint(0, 6), payload


def pack(rng: random.Random, artifact: Artifact, lanes: list[tuple[int, bytes]]) -> bytes:
    how, class_, flags = rng.random(), artifact.class_, artifact.flags
    if how < 0.6:
        return pack_sealed(lanes, class_=class_, flags=flags)
    if how < 0.7:
        data = pack_sealed(lanes, class_=class_, flags=flags)
        seal = change_value(rng, json.loads(data[45 : 45 + int.from_bytes(data[41:45], "big")]))
        return pack_file([(4, canonical(seal)), *lanes], version=3, class_=class_, flags=flags)
    if how < 0.9:
        held = [(4, bytes(artifact.payload(artifact.lanes[0])))] if how < 0.8 else []
        return pack_file(
            held + lanes, version=rng.randint(1, 3), class_=rng.randint(1, 2), flags=rng.choice(FLAGS)
        )
    data = bytearray(pack_sealed(lanes, class_=class_, flags=flags))
    for _ in range(rng.randint(1, 3)):
        if len(data) > 1 and rng.random() < 0.3:
            del data[rng.randrange(1, len(data)) :]
        elif rng.random() < 0.5:
            data[rng.randrange(min(48, len(data)))] = rng.randrange(256)
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` changed files; the same for the same seed."""
    rng = random.Random(seed)
    artifacts = [parse_artifact(build(name)) for name in ATTACKS]
    artifacts += [parse_artifact(Parts.sample().pack())] * 3
    made = 0
    while made < count:
        artifact = rng.choice(artifacts)
        lanes = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.sealed_lanes]
        for _ in range(rng.randint(1, 2)):
            change_lanes(rng, lanes)
        try:
            data = pack(rng, artifact, lanes)
        except TypeError:
            # Keys of several types have no order, so this value cannot be packed.
            continue
        made += 1
        yield data
