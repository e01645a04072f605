"""An operator, an account and a user of NATS, each signed by the one before."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The kinds of keys; in base 32 they are the first letter.
_SEED, _OPERATOR, _ACCOUNT, USER = 18, 14, 0, 20


@dataclass(frozen=True)
class Credentials:
    """`config` for the server; `creds` is the file of the user."""

    config: str
    creds: str


def make_credentials() -> Credentials:
    operator, user, account, system = Key(_OPERATOR), Key(USER), Key(_ACCOUNT), Key(_ACCOUNT)
    limits = {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    }  # fmt: skip
    operator_jwt = operator.sign("tests", operator.public, {"type": "operator", "version": 2})
    account_jwt = operator.sign("state", account.public, {"limits": limits, "type": "account", "version": 2})
    system_jwt = operator.sign("system", system.public, {"type": "account", "version": 2})
    user_jwt = account.sign(
        "upscaled", user.public, {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}
    )
    return Credentials(
        f"operator: {operator_jwt}\nsystem_account: {system.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.public}: {account_jwt}, {system.public}: {system_jwt} }}\n",
        creds_of(user_jwt, user.seed),
    )


def creds_of(jwt: str, seed: str) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


class Key:
    """A key pair; `public` and `seed` as NATS writes them."""

    def __init__(self, kind: int) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public = _checked(bytes([kind << 3]) + self._private.public_key().public_bytes_raw())
        head = (_SEED << 11) | (kind << 6)  # five bits each
        self.seed = _checked(head.to_bytes(2, "big") + self._private.private_bytes_raw())

    def sign(self, name: str, subject: str, claims: dict[str, object]) -> str:
        body = {"iss": self.public, "sub": subject, "name": name, "iat": 1_700_000_000, "nats": claims}
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = _encoded(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
        signed = f"{head}.{_encoded(json.dumps(body).encode())}"
        return f"{signed}.{_encoded(self._private.sign(signed.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _checked(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + checksum).decode().rstrip("=")
