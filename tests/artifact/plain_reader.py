"""A second reader of `.s7l`, written from specs/artifact.md alone: standard library
only, nothing of the package.

    python plain_reader.py FILE     prints what the file holds

It checks what the page says a reader MUST check, and keeps tensor data as lists of signed integers.
"""

import hashlib
import json
import math
import pathlib
import re
import struct
import sys

LANES = {1: "DICT", 2: "FIELD", 3: "LANE", 4: "EDGE", 5: "BATCH"}


class RefusedError(Exception):
    pass


def need(condition, what):
    if not condition:
        raise RefusedError(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def merkle(leaves):
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + merkle(leaves[:k]) + merkle(leaves[k:]))


def paired(digests):
    if not digests:
        return bytes(32)
    while len(digests) > 1:
        if len(digests) % 2:
            digests = [*digests, digests[-1]]
        digests = [sha256(left + right) for left, right in zip(digests[::2], digests[1::2], strict=True)]
    return digests[0]


def read_lanes(data):
    lanes, offset, digests = [], 40, []
    while offset < len(data):
        need(offset + 37 <= len(data), f"lane {len(lanes)}: truncated at offset {offset}")
        lane_id, length = struct.unpack_from(">BI", data, offset)
        need(lane_id in LANES, f"lane {len(lanes)}: unknown id {lane_id}")
        end = offset + 5 + length
        need(end + 32 <= len(data), f"lane {len(lanes)}: truncated at offset {offset}")
        payload = data[offset + 5 : end]
        need(sha256(payload) == data[end : end + 32], f"lane {len(lanes)}: wrong digest")
        digests.append(data[end : end + 32])
        lanes.append((LANES[lane_id], payload))
        offset = end + 32
    return lanes, paired(digests)


def read_records(payload, padded, tensors):
    offset = 0

    def take(size):
        nonlocal offset
        need(offset + size <= len(payload), f"record truncated at {offset}")
        offset += size
        return payload[offset - size : offset]

    while offset < len(payload):
        (name_length,) = struct.unpack(">H", take(2))
        need(1 <= name_length <= 255, f"a name of {name_length} bytes")
        name = take(name_length).decode("ascii")
        need(all("!" <= c <= "~" and c not in "/\\" for c in name), f"bad name {name!r}")
        need(name not in tensors, f"duplicate {name}")
        rank = take(1)[0]
        need(1 <= rank <= 8, f"{name}: rank {rank}")
        dims = struct.unpack(f">{rank}I", take(4 * rank))
        need(0 not in dims, f"{name}: zero dimension")
        (scale,) = struct.unpack(">f", take(4))
        numel = math.prod(dims)
        values = struct.unpack(f"{numel}b", take(numel))
        if padded:
            padding = take(-numel % 32)
            need(not any(padding), f"{name}: padding")
        tensors[name] = {"dims": list(dims), "scale": scale, "data": list(values)}


def check_flags(version, class_, flags):
    need(class_ in (1, 2), f"class {class_}")
    moe = class_ == 2
    need(version != 2 or moe, "version 2 is MoE")
    need(not flags & ~(0x85 if version == 3 else 0x05), f"flags {flags}")
    need(moe or not flags & 4, "flag MoE of a dense class")
    if version == 3:
        need(flags & 1 and bool(flags & 4) == moe, f"flags {flags} of class {class_}")
    return bool(flags & 0x80) if version == 3 else version == 2


def is_seal(payload):
    try:
        return json.loads(payload)["kind"] == "seal"
    except (ValueError, LookupError, TypeError):
        return False


def check_seal(seal, data, payloads, tensors):
    need(seal["header"] == data[:8].hex(), "seal: header")
    others = [lane for lane in payloads if not is_seal(lane[1])]
    need(len(seal["lanes"]) == len(others) == len(payloads) - 1, "seal: number of lanes")
    roots, records = {}, []
    for listed, (name, payload) in zip(seal["lanes"], others, strict=True):
        need((LANES[listed["id"]], listed["n_bytes"]) == (name, len(payload)), "seal: a lane")
        need(listed["sha256"] == sha256(payload).hex(), "seal: a digest")
        kind = json.loads(payload)["kind"] if payload and name not in ("DICT", "FIELD") else ""
        need(listed["kind"] == kind, "seal: a kind")
        start, size = 0, seal["chunk_bytes"]
        for piece in listed["pieces"]:
            whole = payload[start : start + piece["n_bytes"]]
            chunks = [sha256(whole[i : i + size]) for i in range(0, len(whole), size)]
            need(piece["chunks"] == b"".join(chunks).hex(), f"seal: chunks of {piece['name']!r}")
            start += piece["n_bytes"]
            if name == "FIELD":
                expert = re.search(r"(^|\.)experts\.(\d+)\.", piece["name"])
                part = f"expert.{expert[2]}" if expert else "trunk"
                part = "training" if piece["name"].startswith("training.") else part
                roots.setdefault(part, []).append(merkle(chunks))
                records.append(piece["name"])
        need(start == len(payload), "seal: pieces")
    need(records == list(tensors), "seal: records")
    need(seal["parts"] == {part: merkle(leaves).hex() for part, leaves in roots.items()}, "seal: parts")


def read(data):
    """Everything in a file, as plain values."""
    need(len(data) >= 40 and data[:4] == b"S7LM", "not an artifact")
    version, class_, flags = struct.unpack_from(">HBB", data, 4)
    need(version in (1, 2, 3), f"version {version}")
    padded = check_flags(version, class_, flags)
    lanes, root = read_lanes(data)
    need(root == data[8:40], "wrong root")
    names = [name for name, _ in lanes]
    need(names.count("DICT") <= 1, "two DICT lanes")
    result = {"version": version, "class": class_, "flags": flags, "root": root.hex()}
    result |= {"lanes": names, "tensors": {}, "json": {}, "dictionary": b""}
    for name, payload in lanes:
        if name == "DICT":
            result["dictionary"] = payload
        elif name == "FIELD":
            read_records(payload, padded, result["tensors"])
        elif payload and version == 3:
            value = json.loads(payload)
            need(value["kind"] not in result["json"], f"two payloads of kind {value['kind']}")
            result["json"][value["kind"]] = value
    for name in ("embedding.weight", "lm_head.weight"):
        need(name in result["tensors"] or "FIELD" not in names, f"no tensor {name}")
    if version < 3:
        need(not any(is_seal(payload) for _, payload in lanes), "a seal in a file of the published contract")
    elif lanes:
        need("seal" in result["json"], "no seal")
        check_seal(result["json"]["seal"], data, lanes, result["tensors"])
    return result


if __name__ == "__main__":
    found = read(pathlib.Path(sys.argv[1]).read_bytes())
    for name, tensor in found["tensors"].items():
        print(name, tensor["dims"], tensor["scale"])
    print(found["lanes"], found["root"])
