"""For receivers of callbacks: who called, and about what.

    from upscaled import webhooks

    def receive(request):
        job = webhooks.verify(request.body, request.headers, secrets)
        if job["state"] == "JOB_STATE_SUCCEEDED":
            ...

The secrets come from `client.webhook_secrets()`. A receiver may be told twice about the same job; the header
`webhook-id` is then the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from upscaled._errors import WebhookVerificationError

__all__ = ["WebhookVerificationError", "verify"]

_PREFIX = "whsec_"
_SECONDS = re.compile(r"[0-9]{1,12}")
# Far more than keys are ever in rotation; a stranger's header must not cost a comparison per byte.
_MAX_SIGNATURES = 16


def verify(
    payload: bytes | str,
    headers: Mapping[str, str],
    secrets: str | bytes | Iterable[str | bytes],
    tolerance_seconds: float = 300,
) -> dict[str, Any]:
    """The job that a callback tells of, as the JSON of the contract's `Job`.

    `payload` is the body as it came, before anything has parsed it. `headers` may be in any case. `secrets`:
    one or several, as `whsec_…` or as the bytes that this stands for; any of them will do.

    Raises `WebhookVerificationError` if no secret made the signature, or if it was made more than
    `tolerance_seconds` ago or ahead: answer with a 4xx status then, and do nothing else. Raises `ValueError`
    for secrets that are none.
    """
    keys = [_key(each) for each in ([secrets] if isinstance(secrets, str | bytes) else secrets)]
    if not keys:
        raise ValueError("at least one secret is needed")
    body = _bytes(payload) if isinstance(payload, str) else bytes(payload)
    given = {name.lower(): value for name, value in headers.items()}
    message, timestamp, signatures = (
        _header(given, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    _check_age(timestamp, tolerance_seconds)
    signed = b".".join((_bytes(message), _bytes(timestamp), body))
    if not _is_signed(signed, signatures.split(" ")[:_MAX_SIGNATURES], keys):
        raise WebhookVerificationError("no signature of the callback was made with one of the secrets")
    return _parsed(body)


def _is_signed(signed: bytes, signatures: list[str], keys: list[bytes]) -> bool:
    # Compared as text: several texts of base64 stand for the same bytes.
    expected = [b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    matches = [hmac.compare_digest(_bytes(each), mine) for each in signatures for mine in expected]
    return any(matches)


def _bytes(text: str) -> bytes:
    # Some servers hand over what is not text as lone surrogates, which plain UTF-8 refuses.
    return text.encode("utf-8", "surrogatepass")


def _check_age(timestamp: str, tolerance_seconds: float) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise WebhookVerificationError("the header webhook-timestamp is not in seconds since 1970")
    age = time.time() - int(timestamp)
    # Written so that a tolerance that is not a number refuses.
    if not abs(age) <= tolerance_seconds:
        when = "old" if age > 0 else "far ahead"
        raise WebhookVerificationError(
            f"the callback is too {when}", metadata={"limit": tolerance_seconds, "actual": round(age)}
        )


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise WebhookVerificationError(f"the callback has no header {name}")
    return value


def _key(secret: str | bytes) -> bytes:
    if isinstance(secret, bytes):
        key = secret
    else:
        text = secret.strip().removeprefix(_PREFIX)
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise ValueError(f"a secret of callbacks is {_PREFIX} and base64") from None
    if not key:
        raise ValueError("a secret of callbacks is empty")
    return key


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        job = json.loads(body)
    except (ValueError, RecursionError):
        job = None
    if not isinstance(job, dict):
        raise WebhookVerificationError("the callback is signed, but is not a JSON object")
    return job
