"""A callback that was changed on its way, or is old, is not taken for genuine.

python -m tests.chaos.webhook_signature [--short] [--out bench-results/reliability/webhook_signature.json]

A whole server with two keys in rotation calls back; then every bit of the body and of the three headers is
changed, one at a time, and given to the official library of Standard Webhooks and to the SDK's.
"""

from __future__ import annotations

import base64
import binascii
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import standardwebhooks

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, picture
from tests.e2e.receiver import receiver
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled import Client, webhooks
from upscaled.v1 import jobs_pb2, jobs_pb2_grpc, options_pb2
from upscaled_server.jobs.callbacks.signature import signed_headers

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_KEYS = f"{'n' * 40},{'o' * 40}"
_WAIT_SECONDS = 60.0
_SHORT_EVERY = 16
# How old or far ahead; the official library and the SDK allow 300 s.
_OTHER_TIMES = (-86400, -3600, -400, -302, 302, 400, 3600, 86400)
_GENUINE_TIMES = (-290, -60, 60, 290)

Verify = Callable[[bytes, Mapping[str, str]], Any]


def verifiers(secrets: list[str]) -> dict[str, Verify]:
    found: dict[str, Verify] = {"the SDK with all keys": lambda b, h: webhooks.verify(b, h, secrets)}
    for number, secret in enumerate(secrets):
        official = standardwebhooks.Webhook(secret)
        found[f"the official library with key {number}"] = lambda b, h, o=official: o.verify(b, dict(h))
        found[f"the SDK with key {number}"] = lambda b, h, s=secret: webhooks.verify(b, h, s)
    return found


def changed(body: bytes, headers: dict[str, str]) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Every callback that differs by one bit, with what was changed."""
    for at in range(8 * len(body)):
        yield f"bit {at} of the body", _flipped(body, at), headers
    for name in _HEADERS:
        value = headers[name].encode("latin-1")
        for at in range(8 * len(value)):
            yield f"bit {at} of {name}", body, {**headers, name: _flipped(value, at).decode("latin-1")}


def _flipped(data: bytes, at: int) -> bytes:
    found = bytearray(data)
    found[at // 8] ^= 1 << at % 8
    return bytes(found)


def _passes(verify: Verify, body: bytes, headers: Mapping[str, str]) -> bool:
    try:
        verify(body, headers)
    except Exception:  # whatever it raises, it was not taken for genuine
        return False
    return True


def _still_signed(headers: Mapping[str, str], genuine: Mapping[str, str]) -> bool:
    """Whether the right signature of some key is still there: two keys sign, a changed bit spoils one; and
    some texts of base64 stand for the same bytes, which the official library does not tell apart."""
    if any(headers[name] != genuine[name] for name in _HEADERS[:2]):
        return False
    mine, theirs = (_signatures(each["webhook-signature"]) for each in (genuine, headers))
    return bool(mine & theirs)


def _signatures(text: str) -> set[bytes]:
    found = set[bytes]()
    for each in text.split(" "):
        version, _, signature = each.partition(",")
        try:
            found.add(version.encode() + base64.b64decode(signature))
        except (binascii.Error, ValueError):
            continue
    return found


def _called_back() -> tuple[bytes, dict[str, str], list[str], list[str]]:
    """Body, headers and secrets of a real callback, and what is not as before at the server that made it."""
    with receiver(picture(16, 12)) as told:
        host = told.origin.removeprefix("http://")
        opened = {"UPSCALED_CALLBACK_ALLOW": host, "UPSCALED_CALLBACK_HTTP": "true"}
        with (
            running_server(UPSCALED_SIGNING_KEYS=_KEYS, **opened) as server,
            Client(server.address, timeout=_WAIT_SECONDS) as client,
            grpc.insecure_channel(server.address) as channel,
        ):
            control = Control(server, stores=True)
            request = jobs_pb2.CreateJobRequest(
                source=options_pb2.Source(image=picture(16, 12)),
                options=options_pb2.UpscaleOptions(model=FAST),
                callback_url=f"{told.origin}/hook",
            )
            jobs_pb2_grpc.JobsStub(channel).CreateJob(request, timeout=_WAIT_SECONDS)
            body, headers = told.wait_for_callback(_WAIT_SECONDS)
            return body, headers, client.webhook_secrets(), control.problems(server)


def _try(
    record: Record, what: str, verify: Verify, genuine: bool, body: bytes, headers: Mapping[str, str]
) -> None:
    found = _passes(verify, body, headers)
    record.tried += 1
    record.held += found == genuine
    if found != genuine:
        record.not_held.append(f"{what} was {'taken' if found else 'refused'}")


def _run(record: Record, short: bool) -> None:
    body, headers, secrets, problems = _called_back()
    record.not_held += problems
    found, spellings = verifiers(secrets), 0
    if len(secrets) != 2:
        raise RuntimeError("two keys are in rotation")
    for name, verify in found.items():
        _try(record, f"the callback itself, by {name},", verify, True, body, headers)
    for number, (what, other_body, other_headers) in enumerate(changed(body, headers)):
        if short and number % _SHORT_EVERY:
            continue
        if other_body == body and _still_signed(other_headers, headers):
            spellings += 1
            continue
        for name, verify in found.items():
            _try(record, f"{what}, by {name},", verify, False, other_body, other_headers)
    keys = [base64.b64decode(each.removeprefix("whsec_")) for each in secrets]
    for times, genuine in ((_OTHER_TIMES, False), (_GENUINE_TIMES, True)):
        for seconds in times:
            signed = signed_headers(headers["webhook-id"], time.time() + seconds, body, keys)
            for name, verify in found.items():
                _try(record, f"one of {seconds} s, by {name},", verify, genuine, body, signed)
    record.figures = {
        "bits_changed": 8 * (len(body) + sum(len(headers[name]) for name in _HEADERS)),
        "changes_that_leave_a_right_signature": spellings,
        "verifiers": len(found),
    }


def main() -> int:
    options = arguments("webhook_signature", __doc__.split("\n")[0]).parse_args()
    record = Record(
        "webhook_signature",
        "Webhook signature",
        "a callback of a server with two keys in rotation passes with either key; with any bit of body, id "
        "or timestamp changed, with no right signature left, or more than 300 s old or ahead, it passes with "
        "none",
        options.short,
    )
    began = time.monotonic()
    _run(record, options.short)
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
