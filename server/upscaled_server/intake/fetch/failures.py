"""What httpcore raises, in words that name no more of a URL than may be shown."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore

from upscaled_server.errors import FetchFailed
from upscaled_server.intake.fetch.urls import Target

# The most specific first.
_PROBLEMS: tuple[tuple[type[Exception], str], ...] = (
    (httpcore.ConnectTimeout, "does not answer"),
    (httpcore.ProxyError, "is not reached through the proxy"),
    (httpcore.ConnectError, "cannot be connected to"),
    (httpcore.TimeoutException, "stopped in the middle of its answer"),
    (httpcore.ProtocolError, "does not answer as HTTP has it"),
    (httpcore.NetworkError, "broke off the connection"),
)


@contextmanager
def readable_failures(field: str, target: Target) -> Iterator[None]:
    """Raises `FetchFailed` instead."""
    try:
        yield
    except tuple(kind for kind, _ in _PROBLEMS) as error:
        problem = next(text for kind, text in _PROBLEMS if isinstance(error, kind))
        raise FetchFailed(
            f"{field}: {target.origin} {problem}{_tls_reason(error)}", origin=target.origin
        ) from None


def _tls_reason(error: BaseException) -> str:
    """What is wrong with a certificate, which is what a caller can have put right."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f" (certificate: {seen.verify_message})"
        if isinstance(seen, ssl.SSLError) and not isinstance(seen, ssl.SSLWantReadError):
            return " (TLS)"
        seen = seen.__cause__ or seen.__context__
    return ""
