"""URLs that serve one output without a key, until they expire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Sequence

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import Unauthenticated
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.stored_records import StoredOutput

MAX_LIFETIME_SECONDS = 7 * 24 * 3600.0
DEFAULT_LIFETIME_SECONDS = 3600.0


class SigningSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    public_url: str = Field(
        "",
        description="Where callers reach the HTTP side of this service, such as https://images.example.com; "
        "URLs of outputs begin with it. Without it they are paths, for whoever knows the host.",
    )

    @field_validator("public_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// or http://")
        return url.rstrip("/")


class UrlSigner:
    """Signs and verifies `GET /v1/outputs/{id}:download`. `keys`: the newest first, which signs."""

    def __init__(
        self, keys: Sequence[bytes], public_url: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._public_url = public_url
        self._clock = clock

    def sign(self, output_id: str, expires: int) -> str:
        """`expires` in whole seconds since 1970."""
        return _signature(self._keys[0], output_id, expires)

    def verify(self, output_id: str, expires: int, signature: str) -> None:
        """Raises `Unauthenticated` for a signature that is not ours, not of this output, or over.

        How long it takes tells nothing of the right signature.
        """
        given = signature.encode()
        right = [
            hmac.compare_digest(_signature(key, output_id, expires).encode(), given) for key in self._keys
        ]
        if not any(right):
            raise Unauthenticated("the signature is not valid")
        if expires <= self._clock():
            raise Unauthenticated("the signature has expired; ask for a new URL", expires=expires)

    def url(self, output_id: str, expires: int) -> str:
        signature = self.sign(output_id, expires)
        return f"{self._public_url}/v1/outputs/{output_id}:download?signature={signature}&expires={expires}"

    def address(self, output_id: str, kept_until: float) -> tuple[str, float]:
        """The URL that goes with a result, and when it stops working: with the output, and within 7 days."""
        expires = math.floor(min(kept_until, self._clock() + MAX_LIFETIME_SECONDS))
        return self.url(output_id, expires), float(expires)


async def signed_url(
    files: StoredFiles,
    signer: UrlSigner,
    record: StoredOutput,
    lifetime_seconds: float,
    *,
    clock: Callable[[], float] = time.time,
) -> tuple[str, float]:
    """A URL of an output, the object store's own where it has one, and when it stops working: after
    `lifetime_seconds`, and never later than the output is deleted."""
    expires = min(clock() + lifetime_seconds, record.expires_at)
    seconds = math.floor(expires - clock())
    if seconds >= 1 and (url := await files.presign(record, seconds)) is not None:
        return url, clock() + seconds
    return signer.url(record.id, math.floor(expires)), float(math.floor(expires))


def _signature(key: bytes, output_id: str, expires: int) -> str:
    """43 characters that need no quoting in a URL."""
    text = f"output:{output_id}:{expires}".encode()
    return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).rstrip(b"=").decode()
