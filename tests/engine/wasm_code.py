"""Reads the instructions of a WebAssembly object, and says which of them are arithmetic on floats.

Of the code section of a module or object (WebAssembly core 3.0, chapter 5, "Binary Format"), one by
one; one that it does not know is an error, so nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

CODE_SECTION = 10
BLOCK, INDEX, TWO, MEMORY, LANE, TYPES, BR_TABLE = (
    "block",
    "index",
    "two",
    "memory",
    "lane",
    "types",
    "br_table",
)
# Opcodes by prefix (0: none), and the immediates of those that have any: a
# kind, or a number of bytes.
KNOWN = {
    0x00: {*range(6), *range(0x0B, 0x12), 0x1A, 0x1B, 0x1C, *range(0x20, 0x27), *range(0x28, 0xC5)},
    0xFC: set(range(12)),
    0xFD: set(range(0x114)),
}
IMMEDIATES: dict[int, dict[int, str | int]] = {
    0x00: dict.fromkeys((2, 3, 4), BLOCK)
    | {0x0E: BR_TABLE, 0x11: TWO, 0x1C: TYPES, 0x41: INDEX, 0x42: INDEX, 0x43: 4, 0x44: 8}
    | dict.fromkeys((0x0C, 0x0D, 0x10, *range(0x20, 0x27), 0x3F, 0x40), INDEX)
    | dict.fromkeys(range(0x28, 0x3F), MEMORY),
    0xFC: {8: TWO, 9: INDEX, 10: TWO, 11: INDEX},
    0xFD: dict.fromkeys((*range(12), 92, 93), MEMORY)
    | {12: 16, 13: 16}
    | dict.fromkeys(range(21, 35), 1)
    | dict.fromkeys(range(84, 92), LANE),
}
# Constants, comparisons, arithmetic and conversions of f32 and f64. Loads and stores of floats move
# bits and are no arithmetic.
FLOATS = {
    0x00: {0x43, 0x44, *range(0x5B, 0x67), *range(0x8B, 0xA7), *range(0xA8, 0xAC), *range(0xAE, 0xBC)},
    0xFC: set(range(8)),
    0xFD: {
        0x13, 0x14, *range(0x41, 0x4D), 0x5E, 0x5F, *range(0x67, 0x6B), 0x74, 0x75, 0x7A, 0x94,
        *range(0xE0, 0x100), *range(0x101, 0x109), *range(0x10D, 0x111),
    },
}  # fmt: skip


class Reader:
    """Bytes and a place in them."""

    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw, self.at = raw, at

    def byte(self) -> int:
        self.at += 1
        return self.raw[self.at - 1]

    def number(self) -> int:
        """LEB128; signed ones are only skipped."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def skip(self, kind: str | int | None) -> None:
        """The immediates of an instruction."""
        if isinstance(kind, int):
            self.at += kind
        elif kind in (BLOCK, INDEX):
            self.number()
        elif kind == TWO:
            self.number(), self.number()
        elif kind in (MEMORY, LANE):
            if self.number() & 64:  # the memory is named
                self.number()
            self.number()
            self.at += kind == LANE
        elif kind in (BR_TABLE, TYPES):
            for _ in range(self.number() + (kind == BR_TABLE)):
                self.number()


def sections(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Identifier and content of each section."""
    assert raw[:8] == b"\0asm\1\0\0\0"
    reader = Reader(raw, 8)
    while reader.at < len(raw):
        section, size = reader.byte(), reader.number()
        yield section, raw[reader.at : reader.at + size]
        reader.at += size


def body(reader: Reader, end: int) -> Iterator[tuple[int, int]]:
    """Prefix (0: none) and opcode of each instruction of a function; checks that blocks
    close where the function ends.
    """
    for _ in range(reader.number()):  # local variables
        reader.number(), reader.number()
    depth = 1
    while depth:
        opcode, prefix = reader.byte(), 0
        if opcode in (0xFC, 0xFD):
            prefix, opcode = opcode, reader.number()
        assert opcode in KNOWN[prefix], f"opcode {prefix:#x} {opcode:#x} at {reader.at}"
        if not prefix:
            depth += (opcode in (2, 3, 4)) - (opcode == 0x0B)
        reader.skip(IMMEDIATES[prefix].get(opcode))
        yield prefix, opcode
    assert reader.at == end


def instructions(raw: bytes) -> list[tuple[int, int]]:
    """Prefix and opcode of every instruction of a module or object."""
    found = []
    for section, content in sections(raw):
        if section == CODE_SECTION:
            reader = Reader(content)
            for _ in range(reader.number()):
                size = reader.number()
                found += body(reader, reader.at + size)
    return found


def float_arithmetic(raw: bytes) -> list[str]:
    """Opcodes of arithmetic on floats that are in a module or object, as text."""
    bad = {(prefix, opcode) for prefix, opcode in instructions(raw) if opcode in FLOATS[prefix]}
    return sorted(f"{prefix:#04x} {opcode:#04x}" for prefix, opcode in bad)
