"""An operator, an account and a user of NATS, each signed by the one before."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass

import nkeys


@dataclass(frozen=True)
class Credentials:
    """`config` for the server; `creds` is the file of the user."""

    config: str
    creds: str


def make_credentials() -> Credentials:
    operator, user = _Key(nkeys.PREFIX_BYTE_OPERATOR), _Key(nkeys.PREFIX_BYTE_USER)
    account, system = _Key(nkeys.PREFIX_BYTE_ACCOUNT), _Key(nkeys.PREFIX_BYTE_ACCOUNT)
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
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n",
    )


class _Key:
    def __init__(self, prefix: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def sign(self, name: str, subject: str, claims: dict[str, object]) -> str:
        body = {"iss": self.public, "sub": subject, "name": name, "iat": 1_700_000_000, "nats": claims}
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = _encoded(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
        signed = f"{head}.{_encoded(json.dumps(body).encode())}"
        return f"{signed}.{_encoded(self._pair.sign(signed.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
