"""Keys: how they look, how they are made, and what is kept of them."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, replace

_PREFIX = "upk_"
"""Makes a key recognisable to people and to scanners of leaked secrets."""
_ID_CHARACTERS = 12
_SECRET_CHARACTERS = 43
_ID_ALPHABET = string.ascii_lowercase + string.digits
_ALPHABET = string.ascii_letters + string.digits

ID_LENGTH = len(_PREFIX) + _ID_CHARACTERS

_ID = re.compile(rf"{_PREFIX}[a-z0-9]{{{_ID_CHARACTERS}}}")
_WHOLE = re.compile(rf"{_ID.pattern}_[A-Za-z0-9]{{{_SECRET_CHARACTERS}}}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times are seconds since 1970, UTC; `digest` is that of the whole key."""

    id: str
    caller: str
    digest: bytes
    created: float
    description: str = ""
    admin: bool = False
    lifetime: float | None = None
    """Seconds it was made for; `expires` may come sooner, after a rotation."""
    expires: float | None = None
    revoked: float | None = None
    last_used: float | None = None
    mounted: bool = False
    """From UPSCALED_API_KEYS_FILE, and changed only there."""

    def works_at(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    def ended_at(self, now: float) -> Key:
        return replace(self, revoked=now)


def generate() -> str:
    """A new key: `upk_`, 12 characters that are its public id, `_`, and 43 random ones (256 bits)."""
    return f"{_PREFIX}{_random(_ID_ALPHABET, _ID_CHARACTERS)}_{_random(_ALPHABET, _SECRET_CHARACTERS)}"


def is_key(text: str) -> bool:
    return _WHOLE.fullmatch(text) is not None


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def looks_like_key(text: str) -> bool:
    """Whether it was meant as a key of ours, right or wrong."""
    return text.startswith(_PREFIX)


def digest(presented: str) -> bytes:
    """SHA-256 of the whole key.

    No slow hash and no salt: those protect secrets that people choose. 256 random bits cannot be guessed from
    their hash however fast it is, and a slow one would let wrong keys use up the processor.
    """
    return hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
