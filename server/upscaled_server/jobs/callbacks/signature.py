"""The headers of Standard Webhooks, with which a receiver verifies who called, about what, and when."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence


def message_id(job_id: str) -> str:
    """The same at every try, so that a receiver that was told twice can notice."""
    return f"msg_{job_id}"


def signed_headers(message: str, now: float, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """One signature for every secret in rotation, so that receivers may have any of them."""
    timestamp = str(int(now))
    signed = b".".join((message.encode(), timestamp.encode(), body))
    signatures = [
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }
