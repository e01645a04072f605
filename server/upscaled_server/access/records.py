"""Callers and keys as they lie in the store: JSON, one entry each.

callers/NAME
keys/CALLER/MILLISECONDS-ID      so that a caller's keys lie in the order in which they were made
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.keys import Key
from upscaled_server.errors import ProcessingFailed
from upscaled_server.state.store import MAX_RANGE, Entry, Store

CALLERS = "callers"
KEYS = "keys"


@dataclass(frozen=True, slots=True)
class CallerRecord:
    """A caller, when it was made, and the version of its entry. `mounted`: from UPSCALED_API_KEYS_FILE."""

    caller: Caller
    created: float
    version: int = 0
    mounted: bool = False

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key and the version of its entry."""

    key: Key
    version: int


def caller_key(name: str) -> str:
    return f"{CALLERS}/{name}"


def key_key(key: Key) -> str:
    return f"{KEYS}/{key.caller}/{round(key.created * 1000):013d}-{key.id}"


def key_id(store_key: str) -> str:
    """The id in what `key_key` gives."""
    return store_key.rpartition("-")[2]


def caller_value(caller: Caller, created: float) -> bytes:
    return _encode(asdict(caller) | {"created": created})


def key_value(key: Key) -> bytes:
    values = asdict(key) | {"digest": key.digest.hex()}
    del values["mounted"]
    return _encode(values)


async def read_all(store: Store, prefix: str) -> AsyncIterator[Entry]:
    """Every entry under `prefix/`, in order, page by page."""
    last = ""
    while page := await store.range(prefix, after=last):
        for entry in page:
            yield entry
        last = page[-1].key
        if len(page) < MAX_RANGE:
            return


def read_caller(entry: Entry) -> CallerRecord:
    """Raises `ProcessingFailed` for an entry that is no caller."""
    try:
        values = json.loads(entry.value)
        caller = Caller(**_known(Caller, values))
        caller = replace(
            caller,
            allowed_models=tuple(caller.allowed_models),
            max_priority=Priority(caller.max_priority),
        )
        return CallerRecord(caller, float(values["created"]), entry.version)
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(entry, error) from error


def read_key(entry: Entry) -> KeyRecord:
    """Raises `ProcessingFailed` for an entry that is no key."""
    try:
        values = json.loads(entry.value)
        key = Key(**(_known(Key, values) | {"digest": bytes.fromhex(values["digest"])}))
        return KeyRecord(key, entry.version)
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(entry, error) from error


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Without what a later version may have added."""
    return {each.name: values[each.name] for each in fields(kind) if each.name in values}


def _encode(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()


def _unreadable(entry: Entry, error: Exception) -> ProcessingFailed:
    return ProcessingFailed(
        f"the entry {entry.key} cannot be read ({type(error).__name__}); put a backup of the database in its "
        "place",
        key=entry.key,
    )
