"""A user's credentials (`.creds`, as `nsc` writes them): a JWT that names the user, and the seed of the key
that signs what NATS asks to have signed at every connection.

nats-py would read them with the package nkeys, which has no wheel, so that images could not be built of
hashed wheels alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from upscaled_server.errors import FailedPrecondition

_SETTING = "UPSCALED_CLUSTER_CREDENTIALS_FILE"
_JWT = re.compile(rb"-{3,}\s*BEGIN NATS USER JWT\s*-{3,}\s+(\w[\w.-]*)\s+-{3,}\s*END NATS USER JWT")
_SEED = re.compile(rb"-{3,}\s*BEGIN USER NKEY SEED\s*-{3,}\s+(\w+)\s+-{3,}\s*END USER NKEY SEED")
_MAX_BYTES = 64 << 10

# A seed in base 32: two bytes that tell its kind, 32 of the key, a checksum.
_SEED_BYTES = 2 + 32 + 2
_SEED_OF_USER = bytes([(18 << 3) | (20 << 3) >> 5, ((20 << 3) & 31) << 3])


@dataclass(frozen=True, slots=True)
class UserCredentials:
    jwt: bytes
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> UserCredentials:
        """Raises `FailedPrecondition` for a file that is not there, or not of this kind; what is in it is
        not said."""
        if not path.is_file():
            raise FailedPrecondition(f"{_SETTING}: {path} is not a file", path=str(path))
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except OSError as error:
            raise FailedPrecondition(f"{_SETTING}: cannot read {path}: {error}", path=str(path)) from None
        jwt, seed = _JWT.search(data), _SEED.search(data)
        if jwt is None or seed is None:
            missing = "a user's JWT" if jwt is None else "the seed of a user's key"
            raise FailedPrecondition(f"{_SETTING}: {missing} is not in {path}", path=str(path))
        try:
            return cls(jwt[1], _key_of(seed[1]))
        except ValueError as error:
            raise FailedPrecondition(f"{_SETTING}: the seed in {path} {error}", path=str(path)) from None

    def sign(self, nonce: str) -> bytes:
        """In base 64."""
        return base64.b64encode(self.key.sign(nonce.encode()))


def options(path: Path) -> dict[str, Any]:
    """What `nats.connect` takes for it. The file is read again at every connection, because it is replaced
    when credentials are renewed. Raises `FailedPrecondition` as `UserCredentials.read` does.
    """
    UserCredentials.read(path)

    def now() -> UserCredentials:
        try:
            return UserCredentials.read(path)
        except FailedPrecondition as error:
            # An error of its own kind makes nats-py try again later; another one would end its attempts.
            raise nats.errors.Error(error.message) from None

    return {
        "user_jwt_cb": lambda: now().jwt,
        "signature_cb": lambda nonce: now().sign(nonce),
        # nats-py only authenticates at all where a user, a password or a token is given. Beside a signature
        # the name is not sent.
        "user": "upscaled",
    }


def _key_of(seed: bytes) -> Ed25519PrivateKey:
    """Raises `ValueError` with what is wrong with it."""
    try:
        raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))
    except binascii.Error:
        raise ValueError("is not in base 32") from None
    if len(raw) != _SEED_BYTES:
        raise ValueError(f"has {len(raw)} bytes, not {_SEED_BYTES}")
    if raw[:2] != _SEED_OF_USER:
        raise ValueError("is not of a user's key")
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("has a wrong checksum")
    return Ed25519PrivateKey.from_private_bytes(raw[2:-2])
