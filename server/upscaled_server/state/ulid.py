"""Ids that sort by when they were made: ULIDs, 26 characters of Crockford's base 32 in upper case.

https://github.com/ulid/spec: 48 bits of milliseconds, then 80 random bits.
"""

from __future__ import annotations

import re
import secrets
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_RANDOM_BITS = 80
# Half of the range is left, so that counting up within one millisecond never ends.
_FIRST_RANDOM_BITS = _RANDOM_BITS - 1

_lock = threading.Lock()
_last = 0


def new_ulid() -> str:
    """An id that nobody can guess, greater than every one made before in this process, whatever the clock
    does."""
    global _last
    with _lock:
        fresh = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_FIRST_RANDOM_BITS)
        # Within a millisecond, or after the clock went back: a random step beyond the last one.
        _last = fresh if fresh > _last else _last + 1 + secrets.randbits(_FIRST_RANDOM_BITS - 16)
        return _encode(_last)


def is_ulid(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None


def first_ulid(milliseconds: int) -> str:
    """The smallest id of a moment, for ranges of time; milliseconds since 1970."""
    return _encode(milliseconds << _RANDOM_BITS)


def milliseconds_of(ulid: str) -> int:
    """When an id was made, in milliseconds since 1970."""
    value = 0
    for character in ulid:
        value = value << 5 | _ALPHABET.index(character)
    return value >> _RANDOM_BITS


def _encode(value: int) -> str:
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
