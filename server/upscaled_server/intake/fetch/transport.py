"""httpx's requests over guarded sockets, or over the configured proxy.

A transport without a client about it: nothing keeps cookies, follows redirects, reads the environment,
decompresses, or writes URLs to a log, so nothing of that has to be switched off.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import httpx

from upscaled_server.intake.fetch.failures import readable_failures
from upscaled_server.intake.fetch.guard import Guard
from upscaled_server.intake.fetch.network import GuardedNetwork, WatchedStream
from upscaled_server.intake.fetch.urls import Target


class GuardedTransport:
    """One request per connection: what was checked when it was dialled is used at once and closed."""

    def __init__(
        self,
        guard: Guard,
        *,
        proxy: str | None = None,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        # Of the environment only SSL_CERT_FILE and SSL_CERT_DIR are taken: authorities of one's own.
        tls = httpx.create_ssl_context(trust_env=True)
        # At its level DEBUG, which says nothing else, it writes headers of answers down, and so redirects.
        logging.getLogger("httpcore").setLevel(logging.INFO)
        self._guard = guard
        self._proxied = proxy is not None
        self._pool = _pool(GuardedNetwork(guard, dial), tls, proxy)

    @asynccontextmanager
    async def exchange(
        self, target: Target, request: httpx.Request, *, connect_seconds: float, idle_seconds: float
    ) -> AsyncIterator[httpcore.Response]:
        """The answer, its body still unread; closed when the block ends.

        Raises `UrlRefused` where it must not be dialled, `FetchFailed` where nobody answers as HTTP has it.
        """
        if self._proxied:
            await self._guard.check_before_proxy(target)
        timeout = {
            "connect": connect_seconds,
            "read": idle_seconds,
            "write": idle_seconds,
            "pool": connect_seconds,
        }
        asked = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.content,
            extensions={"timeout": timeout},
        )
        with readable_failures(self._guard.field, target):
            answer = await self._pool.handle_async_request(asked)
        stream = answer.extensions.get("network_stream")
        if isinstance(stream, WatchedStream):
            stream.body_begins()
        try:
            yield answer
        finally:
            await answer.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()


def _pool(network: GuardedNetwork, tls: ssl.SSLContext, proxy: str | None) -> httpcore.AsyncConnectionPool:
    # How many there are at once is bounded by those who ask.
    if proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=tls, max_connections=None, max_keepalive_connections=0, network_backend=network
        )
    # The proxy was chosen by the operator; it is dialled wherever it is.
    address = httpx.URL(proxy)
    return httpcore.AsyncHTTPProxy(
        httpcore.URL(scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=b"/"),
        proxy_auth=(address.username, address.password) if address.username else None,
        ssl_context=tls,
        max_connections=None,
        max_keepalive_connections=0,
    )
