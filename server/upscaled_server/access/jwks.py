"""The identity provider's public keys (JWKS, RFC 7517), from a URL or a file, kept up to date."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscaled_server.access.tokens import ALGORITHMS, Tokens
from upscaled_server.errors import FailedPrecondition

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20
_FETCH_SECONDS = 10.0
_REFRESH_SECONDS = 300.0
# A key that nobody knows may be new; asking for it at every such token would let strangers ask for us.
_AGAIN_SECONDS = 10.0


async def load(tokens: Tokens, source: str) -> None:
    """Raises `FailedPrecondition` where the keys cannot be had or none of them can be used."""
    text = await _fetch(source) if source.startswith("https://") else await asyncio.to_thread(_read, source)
    tokens.use(_parse(text, source))


async def keep(tokens: Tokens, source: str) -> None:
    """Load the keys again now and then, and soon after a token with an unknown one. Until cancelled."""
    asked = asyncio.Event()
    tokens.on_unknown_key = asked.set
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                await asked.wait()
            await asyncio.sleep(max(0.0, _AGAIN_SECONDS - (time.monotonic() - began)))
        except TimeoutError:
            pass
        asked.clear()
        try:
            await load(tokens, source)
        except FailedPrecondition as error:
            log.error("the identity provider's keys stay as they were: %s", error.message)


async def _fetch(url: str) -> bytes:
    import httpx

    data = bytearray()
    try:
        async with (
            asyncio.timeout(_FETCH_SECONDS),
            httpx.AsyncClient(timeout=_FETCH_SECONDS) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > _MAX_BYTES:
                    raise _unusable(url, f"it is longer than {_MAX_BYTES} bytes")
    except TimeoutError:
        raise _unusable(url, f"nothing came within {_FETCH_SECONDS:g} seconds") from None
    except httpx.HTTPError as error:
        raise _unusable(url, str(error) or type(error).__name__) from None
    return bytes(data)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None


def _parse(text: bytes, source: str) -> dict[str, PyJWK]:
    """The keys that signatures of our kinds are verified with, by id."""
    import jwt

    try:
        entries: list[dict[str, Any]] = list(json.loads(text)["keys"])
    except (ValueError, KeyError, TypeError):
        raise _unusable(source, "it is not a set of keys") from None
    found = {}
    for entry in entries:
        try:
            key = jwt.PyJWK(entry)
        except (jwt.InvalidTokenError, jwt.PyJWKError, AttributeError, TypeError, ValueError):
            continue  # of a kind that is not for us
        if key.public_key_use in (None, "sig") and key.algorithm_name in ALGORITHMS:
            found[key.key_id or ""] = key
    if not found:
        raise _unusable(source, f"it holds no key for {', '.join(sorted(ALGORITHMS))}")
    return found


def _unusable(source: str, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"UPSCALED_JWT_JWKS: cannot use {source}: {problem}", source=source)
