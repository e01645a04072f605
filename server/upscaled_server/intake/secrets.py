"""The server's own secret keys, and what is derived from them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import closing

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import Entry, KeyExists, Store
from upscaled_server.state.ulid import new_ulid

_LOG = logging.getLogger(__name__)

_KEY = "secrets/signing"
_KEY_BYTES = 32
_MIN_CHARACTERS = 32


class SecretSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    signing_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys that sign URLs and callbacks: texts of 32 characters or more, separated by commas. "
        "The first signs; all are accepted, so a new one is put in front and an old one taken away later. "
        "Default: a key that the server makes and keeps in UPSCALED_DATA_DIR.",
    )


class Secrets:
    """Signing keys, the newest first."""

    def __init__(self, keys: Sequence[bytes], *, kept_in: Store | None = None) -> None:
        """`kept_in`: the store that they come from, if they do."""
        self._kept_in = kept_in
        self._keys = list(keys)

    @property
    def keys(self) -> Sequence[bytes]:
        """The same sequence always: who holds it has the keys of now."""
        return self._keys

    @classmethod
    async def load(cls, settings: SecretSettings, store: Store) -> Secrets:
        """The keys of the settings, else those of the store, where one is made at first.

        Raises `FailedPrecondition` for a key that is too short; no message holds a key.
        """
        given = given_keys(settings)
        return cls(given) if given else cls(await _kept(store), kept_in=store)

    async def follow(self) -> None:
        """Take over what another server changes of the keys in the store, for ever; where they come from the
        settings there is nothing to do."""
        if self._kept_in is not None:
            with closing(ChangeReader(self._kept_in, _KEY, lambda _key, _entry: None, self._read)) as reader:
                await reader.follow()

    async def _read(self) -> None:
        if self._kept_in is None or (entry := await self._kept_in.get(_KEY)) is None:
            return
        try:
            keys = _keys_of(entry)
        except (ValueError, TypeError, KeyError):
            _LOG.error("the entry %s cannot be read: the signing keys stay as they were", _KEY)
        else:
            self._keys[:] = keys or self._keys

    def webhook_keys(self, caller: str) -> list[bytes]:
        """What the callbacks of a caller are signed with: 32 bytes each, the newest first."""
        return [hmac.digest(key, f"webhook:{caller}".encode(), hashlib.sha256) for key in self.keys]

    def webhook_secrets(self, caller: str) -> list[str]:
        """The same for receivers, as Standard Webhooks write them: `whsec_` and base64."""
        return [f"whsec_{base64.b64encode(key).decode()}" for key in self.webhook_keys(caller)]


def given_keys(settings: SecretSettings) -> list[bytes]:
    """The keys of the settings, none where there are none. Raises as `Secrets.load` does."""
    given = [key.strip() for key in settings.signing_keys.get_secret_value().split(",") if key.strip()]
    shortest = min(map(len, given), default=_MIN_CHARACTERS)
    if shortest < _MIN_CHARACTERS:
        raise FailedPrecondition(
            f"UPSCALED_SIGNING_KEYS: every key needs at least {_MIN_CHARACTERS} characters, and one has "
            f"{shortest}; `openssl rand -base64 32` makes one",
            limit=_MIN_CHARACTERS,
            actual=shortest,
        )
    return [key.encode() for key in given]


async def _kept(store: Store) -> list[bytes]:
    entry = await store.get(_KEY)
    if entry is None:
        key = secrets.token_bytes(_KEY_BYTES)
        made = {"id": new_ulid(), "created": time.time(), "key": base64.b64encode(key).decode()}
        try:
            await store.create(_KEY, json.dumps([made]).encode())
        except KeyExists:
            return await _kept(store)
        return [key]
    return _keys_of(entry)


def _keys_of(entry: Entry) -> list[bytes]:
    return [base64.b64decode(each["key"]) for each in json.loads(entry.value)]
