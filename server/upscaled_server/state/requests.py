"""What a caller's `request_id` stands for, so that the same request makes one thing, however often
it comes."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from upscaled_server.errors import AlreadyExists
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged


async def claim(
    store: Store, caller: str, request_id: str, *, kind: str, payload_sha256: str, new_id: str
) -> str:
    """The id that belongs to the caller's `request_id`: `new_id`, or the one of an earlier request with the
    same payload.

    Nothing is known yet of what the id stands for: the server may have ended before it was made. Raises
    `AlreadyExists` if the request id was used for anything else.
    """
    value = json.dumps({"kind": kind, "id": new_id, "payload": payload_sha256}).encode()
    key = _key(caller, request_id)
    while True:
        with suppress(KeyExists):
            await store.create(key, value)
            return new_id
        found = await store.get(key)
        if found is not None:
            return _same(found, request_id, kind, payload_sha256)


async def find(store: Store, caller: str, request_id: str, *, kind: str, payload_sha256: str) -> str | None:
    """The id that belongs to the request id already. Raises as `claim` does."""
    found = await store.get(_key(caller, request_id))
    return None if found is None else _same(found, request_id, kind, payload_sha256)


async def forget(store: Store, caller: str, request_id: str, made_id: str) -> None:
    """Let the request id be used again, if it stands for `made_id`."""
    key = _key(caller, request_id)
    found = await store.get(key)
    if found is not None and json.loads(found.value)["id"] == made_id:
        with suppress(VersionChanged):
            await store.delete(key, found.version)


def _same(found: Entry, request_id: str, kind: str, payload_sha256: str) -> str:
    known = json.loads(found.value)
    if (known["kind"], known["payload"]) != (kind, payload_sha256):
        raise AlreadyExists(
            f"request_id: {request_id} was used for another request; give every request an id of its own",
            field="request_id",
            kind=known["kind"],
        )
    return str(known["id"])


def _key(caller: str, request_id: str) -> str:
    return f"requests/{caller}/{hashlib.sha256(request_id.encode()).hexdigest()}"
