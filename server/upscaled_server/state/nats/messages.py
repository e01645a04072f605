"""What headers of messages say, besides the values."""

from __future__ import annotations

from collections.abc import Mapping

from nats.js.api import Header

_OPERATION = "KV-Operation"
_REASON = "Nats-Marker-Reason"
_SWEPT = "Upscaled-Swept-Through"

DELETION = {_OPERATION: "DEL"}

Headers = Mapping[str, str] | None


def is_deletion(headers: Headers) -> bool:
    """Whether the message only marks that the entry is gone; so do those that NATS's own tools write."""
    return headers is not None and (headers.get(_OPERATION) in ("DEL", "PURGE") or _REASON in headers)


def change_headers(change: str, expected: int) -> dict[str, str]:
    """For a message that is stored only while `expected` is the version of the key's last one, and only once
    for all that bear the same `change`."""
    return {Header.MSG_ID: change, Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}


def change_of(headers: Headers) -> str:
    """The `change` that the message was stored for."""
    return (headers or {}).get(Header.MSG_ID, "")


def sweep_headers(through: int) -> dict[str, str]:
    return {_SWEPT: str(through)}


def swept_through(headers: Headers) -> int:
    """The last message that a sweep may have removed."""
    found = (headers or {}).get(_SWEPT, "")
    return int(found) if found.isdigit() else 0
