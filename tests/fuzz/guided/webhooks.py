"""Callbacks as a stranger may send them to a receiver.

Without the secret nothing is taken, whatever the headers and the body are; the only error is the documented
one. What the server signs is taken if it is a JSON object; what was changed afterwards is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from upscaled import WebhookVerificationError, webhooks
from upscaled_server.jobs.callbacks.signature import signed_headers

_KEY = bytes(range(32))
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
_NOW = time.time()
# A run may take longer than the five minutes for which a signature is good.
_TOLERANCE_SECONDS = 30 * 86400.0
_UNSIGNED, _SIGNED, _CHANGED_BODY, _CHANGED_HEADER = range(4)
_JOB = b'{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "state": "JOB_STATE_SUCCEEDED"}'


def seeds() -> Iterator[bytes]:
    now = str(int(_NOW)).encode()
    yield bytes((_UNSIGNED,)) + b"msg_1\0" + now + b"\0v1,AAAA v1,BBBB\0" + _JOB
    yield bytes((_UNSIGNED,)) + b"\xff\0" + now + b"\0v1a,\xed\xa0\x80\0{}"
    yield bytes((_SIGNED,)) + _JOB
    yield bytes((_SIGNED,)) + b"[" * 2000
    yield bytes((_CHANGED_BODY, 5, 1)) + _JOB
    yield bytes((_CHANGED_HEADER, 7, 3)) + _JOB


def one_input(data: bytes) -> None:
    kind, rest = (data[0] % 4, data[1:]) if data else (_UNSIGNED, b"")
    if kind == _UNSIGNED:
        parts = rest.split(b"\0", 3)
        # As servers in Python hand bytes over that are not text.
        values = [part.decode("utf-8", "surrogateescape") for part in parts[:3]]
        body = parts[3] if len(parts) == 4 else b""
        _must_be_refused(body, dict(zip(_NAMES, values, strict=False)))
        _must_be_refused(
            body, dict(zip(_NAMES, (part.decode("latin-1") for part in parts[:3]), strict=False))
        )
        _must_be_refused(body, _signed(b"{}"))
    elif kind == _SIGNED:
        _must_be_taken_if_an_object(rest)
    elif len(rest) > 3:
        at, bit, body = rest[0], rest[1] % 8, rest[2:]
        headers = _signed(body)
        if kind == _CHANGED_BODY:
            changed = bytearray(body)
            changed[at % len(body)] ^= 1 << bit
            _must_be_refused(bytes(changed), headers)
        else:
            name = _NAMES[at % 3]
            value = bytearray(headers[name].encode())
            value[(at // 3) % len(value)] ^= 1 << bit
            _must_be_refused(body, headers | {name: value.decode("latin-1")})


def _signed(body: bytes) -> dict[str, str]:
    return signed_headers("msg_1", _NOW, body, [_KEY])


def _must_be_refused(body: bytes, headers: dict[str, str]) -> None:
    if headers == _signed(body):
        return
    try:
        webhooks.verify(body, headers, _KEY, _TOLERANCE_SECONDS)
    except WebhookVerificationError:
        return
    raise AssertionError(f"taken: {headers} with {body!r}")


def _must_be_taken_if_an_object(body: bytes) -> None:
    try:
        expected = json.loads(body)
    except (ValueError, RecursionError):
        expected = None
    try:
        taken = webhooks.verify(body, _signed(body), _KEY, _TOLERANCE_SECONDS)
    except WebhookVerificationError:
        assert not isinstance(expected, dict), body
    else:
        assert repr(taken) == repr(expected)
