"""Bytes changed at random, in the ways that break parsers: flipped, cut, repeated, joined, and numbers at the
edges of what they can be."""

from __future__ import annotations

import random
from collections.abc import Sequence

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MAX_BYTES = 1 << 20


def mutated(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """`data` after one to six changes; `others` is what parts are taken from."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        chance.choice((_flip, _set, _number, _cut, _remove, _repeat, _insert, _splice))(
            changed, others, chance
        )
    return bytes(changed[:_MAX_BYTES])


def _at(data: bytearray, chance: random.Random) -> int:
    """A position, more often than not in the head, where formats say what follows."""
    return chance.randrange(min(len(data), 256) if chance.random() < 0.6 else len(data)) if data else 0


def _flip(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[_at(data, chance)] ^= 1 << chance.randrange(8)


def _set(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[_at(data, chance)] = chance.randrange(256)


def _number(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    size, order = chance.choice((1, 2, 4)), chance.choice(("big", "little"))
    at = _at(data, chance)
    value = chance.choice(_EDGES) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, "big" if order == "big" else "little")


def _cut(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if chance.random() < 0.3:
        del data[_at(data, chance) :]


def _remove(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 16, 256))]


def _repeat(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    part = data[at : at + chance.choice((4, 12, 64, 1024))]
    data[at:at] = part * chance.choice((1, 2, 16))


def _insert(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 32)))


def _splice(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if not others:
        return
    other = chance.choice(others)
    begin = chance.randrange(len(other)) if other else 0
    at = _at(data, chance)
    length = chance.choice((8, 64, 1024, 1 << 16))
    data[at : at + length] = other[begin : begin + length]
