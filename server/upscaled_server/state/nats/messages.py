"""What headers of messages say, besides the values."""

from __future__ import annotations

from collections.abc import Mapping

from nats.js.api import Header

_OPERATION = "KV-Operation"
_REASON = "Nats-Marker-Reason"
_CHANGE = "Upscaled-Change"
_SWEPT = "Upscaled-Swept-Through"

DELETION = {_OPERATION: "DEL"}

Headers = Mapping[str, str] | None


def is_deletion(headers: Headers) -> bool:
    """Whether the message only marks that the entry is gone; so do those that NATS's own tools write."""
    return headers is not None and (headers.get(_OPERATION) in ("DEL", "PURGE") or _REASON in headers)


def change_headers(key: str, change: str, expected: int) -> dict[str, str]:
    """For a message that is stored only while `expected` is the version of the key's last one, and only once
    for each `change`.

    With several replicas NATS compares the expected version before a message is replicated, not when it is
    stored, so that two which are under way at once would both be stored (nats-server issue 4320). The id of
    the message closes that gap: of those with the same one only the first is replicated. That no message is
    expected (0) is compared when it is stored, by every version.
    """
    return {
        Header.MSG_ID: f"{key}@{expected}" if expected else change,
        Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected),
        _CHANGE: change,
    }


def change_of(headers: Headers) -> str:
    """The `change` that the message was stored for."""
    return (headers or {}).get(_CHANGE, "")


def sweep_headers(through: int) -> dict[str, str]:
    return {_SWEPT: str(through)}


def swept_through(headers: Headers) -> int:
    """The last message that a sweep may have removed."""
    found = (headers or {}).get(_SWEPT, "")
    return int(found) if found.isdigit() else 0
