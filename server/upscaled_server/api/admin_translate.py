"""Between the messages of `Admin` and callers and keys, both ways."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from upscaled.v1 import admin_pb2, options_pb2
from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.keys import Key
from upscaled_server.access.records import CallerRecord
from upscaled_server.api import translate_in
from upscaled_server.errors import InvalidField

_T = TypeVar("_T")

MAX_DESCRIPTION = 100
_MAX_PAGE = 1000
_DEFAULT_PAGE = 100
# Of characters; what `key_position` gives has fewer.
_MAX_TOKEN = 256

_PRIORITY: dict[int, Priority] = {
    options_pb2.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    options_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    options_pb2.PRIORITY_BATCH: Priority.BATCH,
}
_PLAIN = (
    "max_concurrent",
    "max_queued_jobs",
    "max_requests_per_second",
    "max_input_pixels",
    "max_stored_bytes",
)
_CHANGEABLE = (*_PLAIN, "weight", "monthly_credits", "max_priority", "allowed_models")


def to_caller(message: admin_pb2.Caller, resolve: Callable[[str], str]) -> Caller:
    """A new caller; `resolve` gives a model's catalogue name. Raises `InvalidField`, `NotFound`."""
    return _changed(Caller(message.name), message, _CHANGEABLE, resolve)


def to_changed(
    before: Caller, request: admin_pb2.UpdateCallerRequest, resolve: Callable[[str], str]
) -> Caller:
    """The caller with the fields of the mask taken from the message. Without a mask: those that are set.

    Raises `InvalidField`, `NotFound`.
    """
    message, paths = request.caller, list(request.update_mask.paths)
    if not paths:
        paths = [field.name for field, _ in message.ListFields() if field.name in _CHANGEABLE]
    if paths == ["*"]:
        paths = list(_CHANGEABLE)
    for path in paths:
        if path not in _CHANGEABLE:
            raise InvalidField(
                "update_mask",
                "names a field that cannot be changed",
                limit=", ".join(_CHANGEABLE),
                actual=ascii(path[:80]),
            )
    return _changed(before, message, paths, resolve)


def _changed(
    before: Caller, message: admin_pb2.Caller, paths: Sequence[str], resolve: Callable[[str], str]
) -> Caller:
    values: dict[str, Any] = {path: getattr(message, path) for path in paths if path in _PLAIN}
    defaults = Caller(before.name)
    if "weight" in paths:
        values["weight"] = message.weight if message.HasField("weight") else defaults.weight
    if "monthly_credits" in paths:
        values["monthly_credits"] = (
            message.monthly_credits if message.HasField("monthly_credits") else defaults.monthly_credits
        )
    if "max_priority" in paths:
        if message.max_priority not in _PRIORITY:
            raise InvalidField(
                "caller.max_priority",
                "is not a known value",
                limit=f"0 to {len(_PRIORITY) - 1}",
                actual=message.max_priority,
            )
        values["max_priority"] = _PRIORITY[message.max_priority]
    if "allowed_models" in paths:
        # In the order given, each once.
        values["allowed_models"] = tuple(dict.fromkeys(map(resolve, message.allowed_models)))
    return replace(before, **values)


def from_caller(record: CallerRecord) -> admin_pb2.Caller:
    caller = record.caller
    message = admin_pb2.Caller(
        name=caller.name,
        weight=caller.weight,
        max_priority=(
            options_pb2.PRIORITY_BATCH
            if caller.max_priority is Priority.BATCH
            else options_pb2.PRIORITY_INTERACTIVE
        ),
        allowed_models=caller.allowed_models,
        monthly_credits=caller.monthly_credits,
        etag="" if record.mounted else record.etag,
        create_time=None if record.mounted else _timestamp(record.created),
    )
    for name in _PLAIN:
        setattr(message, name, getattr(caller, name))
    return message


def from_key(key: Key) -> admin_pb2.Key:
    return admin_pb2.Key(
        id=key.id,
        caller=key.caller,
        description=key.description[:MAX_DESCRIPTION],
        admin=key.admin,
        create_time=None if key.mounted else _timestamp(key.created),
        expire_time=_timestamp(key.expires),
        revoke_time=_timestamp(key.revoked),
        last_use_time=_timestamp(key.last_used),
    )


def to_description(text: str) -> str:
    """Raises `InvalidField`."""
    if len(text) > MAX_DESCRIPTION:
        raise InvalidField(
            "description", "is too long", limit=f"{MAX_DESCRIPTION} characters", actual=len(text)
        )
    if not text.isprintable():
        raise InvalidField(
            "description",
            "has characters that cannot be shown",
            limit="printable characters",
            actual=ascii(text),
        )
    return text


def to_seconds(field: str, duration: Duration, *, low: float, high: float) -> float:
    """Raises `InvalidField` outside `low` to `high`."""
    seconds = translate_in.to_seconds(field, duration)
    if not low <= seconds <= high:
        raise InvalidField(
            field, "is out of range", limit=f"{low:g} to {high:g} seconds", actual=f"{seconds:g}"
        )
    return seconds


def page_of(
    items: Sequence[_T], position: Callable[[_T], str], *, size: int, token: str
) -> tuple[list[_T], str]:
    """One page of `items`, which lie in order, and the token of the next (AIP-158).

    `position` names an item; a token holds that of the last one sent, so that pages stay right while items
    come and go. Raises `InvalidField`.
    """
    if not 0 <= size <= _MAX_PAGE:
        raise InvalidField("page_size", "is out of range", limit=f"0 to {_MAX_PAGE}", actual=size)
    after = _read_token(token)
    rest = [item for item in items if position(item) > after] if after else list(items)
    page = rest[: size or _DEFAULT_PAGE]
    return page, _make_token(position(page[-1])) if len(page) < len(rest) else ""


def key_position(key: Key) -> str:
    """In the order of `Directory.keys_of`: the end of a name sorts before anything in it."""
    return f"{key.caller}\0{round(key.created * 1e6):017d}\0{key.id}"


def caller_position(record: CallerRecord) -> str:
    return record.caller.name


def _make_token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _read_token(token: str) -> str:
    try:
        if len(token) <= _MAX_TOKEN:
            return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        pass
    raise InvalidField(
        "page_token",
        "is not a token of this server",
        limit="next_page_token of the page before",
        actual=ascii(token[:80]),
    )


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
