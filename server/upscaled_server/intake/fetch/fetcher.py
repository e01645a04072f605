"""From a URL to the bytes of an image, with nothing of the inside reached on the way."""

from __future__ import annotations

import asyncio
import logging
import string
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

import httpcore
import httpx

from upscaled_server.errors import DeadlinePassed, FetchFailed, NotAnImage
from upscaled_server.intake.fetch.allowed import Openings
from upscaled_server.intake.fetch.body import Limits, gather, inflated
from upscaled_server.intake.fetch.failures import readable_failures
from upscaled_server.intake.fetch.guard import Guard
from upscaled_server.intake.fetch.network import WatchedStream
from upscaled_server.intake.fetch.objects import SCHEMES, Buckets
from upscaled_server.intake.fetch.places import Places
from upscaled_server.intake.fetch.resolver import Resolver, SystemResolver
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.intake.fetch.transport import GuardedTransport
from upscaled_server.intake.fetch.urls import Target, scheme_of, shown
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.media.codec import formats

FIELD = "source.url"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "Accept": "image/*",
    # Packed answers would have to be unpacked here, and images gain nothing by it.
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "upscaled",
}

Unpacking = Callable[[AsyncIterable[bytes]], AsyncGenerator[bytes, None]]

_LOG = logging.getLogger(__name__)


class Fetcher:
    """Close it with `aclose`. `memory` counts the images that are on their way, of all intakes together."""

    def __init__(
        self,
        settings: FetchSettings,
        memory: UploadMemory,
        *,
        resolver: Resolver | None = None,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._resolver: Resolver = resolver or SystemResolver()
        self._guard = Guard(
            self._resolver,
            Openings(settings.fetch_allow, settings.fetch_ports),
            field=FIELD,
            schemes=settings.fetch_schemes,
        )
        self._transport = GuardedTransport(self._guard, proxy=settings.fetch_proxy or None, dial=dial)
        self._buckets = Buckets(settings.fetch_buckets, field=FIELD)
        self._places = Places(settings.max_concurrent_fetches)

    def check(self, url: str) -> None:
        """What can be said of a URL at once, for an answer before anything is queued. Raises `UrlRefused`."""
        if scheme_of(url) in SCHEMES:
            self._buckets.check(url)
        else:
            self._guard.check(url)

    async def fetch(
        self, url: str, *, max_bytes: int, deadline_seconds: float | None = None, caller: str = ""
    ) -> bytes:
        """The file at an `http`, `https`, `s3` or `gs` URL. One `caller` has a quarter of all places at most.

        Raises `UrlRefused`; `FetchFailed` where the origin fails, is too slow, or redirects too often;
        `LimitExceeded` beyond `max_bytes`; `ImageRejected` as soon as it cannot be an image; `DeadlinePassed`
        after `deadline_seconds`, waiting for other fetches included; `Overloaded`.
        """
        limits = Limits(FIELD, max_bytes, self._settings.fetch_idle_seconds, self._memory)
        try:
            async with asyncio.timeout(deadline_seconds) as deadline:
                async with self._places.of(caller):
                    return await self._in_time(url, limits)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlinePassed(f"{FIELD}: the time is up before the image has come") from None

    async def aclose(self) -> None:
        await self._transport.aclose()
        self._resolver.close()

    async def _in_time(self, url: str, limits: Limits) -> bytes:
        seconds = self._settings.fetch_seconds
        try:
            async with asyncio.timeout(seconds) as timeout:
                if scheme_of(url) in SCHEMES:
                    name = self._buckets.check(url)
                    async with aclosing(self._buckets.read(name, limits)) as pieces:
                        return await gather(pieces, limits, check_head=check_head)
                return await self._follow(url, limits)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise FetchFailed(f"{FIELD}: the origin took too long", limit=seconds, unit="s") from None

    async def _follow(self, url: str, limits: Limits) -> bytes:
        for _ in range(self._settings.fetch_max_redirects + 1):
            target = self._guard.check(url)
            found = await self._ask(target, limits)
            if isinstance(found, bytes):
                return found
            url = found
        raise FetchFailed(
            f"{FIELD}: redirected too often", limit=self._settings.fetch_max_redirects, unit="redirects"
        )

    async def _ask(self, target: Target, limits: Limits) -> bytes | str:
        """The file, or where it is instead."""
        request = httpx.Request("GET", target.url, headers=_HEADERS)
        exchange = self._transport.exchange(
            target,
            request,
            connect_seconds=self._settings.fetch_connect_seconds,
            idle_seconds=self._settings.fetch_idle_seconds,
        )
        async with exchange as answer:
            headers = httpx.Headers(answer.headers)
            if answer.status in _REDIRECTS and "location" in headers:
                return _joined(target, headers["location"])
            if answer.status != 200:
                raise FetchFailed(
                    f"{FIELD}: {target.shown} answered with HTTP status {answer.status}",
                    http_status=answer.status,
                )
            unpack = _unpacking(headers, target, limits)
            async with aclosing(_read(answer, target)) as raw, aclosing(unpack(raw)) as pieces:
                data = await gather(pieces, limits, check_head=check_head)
            _LOG.debug("fetched %d bytes from %s", len(data), target.origin)
            return data


def _unpacking(headers: httpx.Headers, target: Target, limits: Limits) -> Unpacking:
    """What makes a file of the body. Raises `LimitExceeded` for a body that says itself that it is too large,
    `FetchFailed` for one that cannot be unpacked."""
    announced = headers.get("content-length", "")
    if announced.isdigit():
        limits.check_size(int(announced))
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("identity", ""):
        return _unchanged
    if encoding in ("gzip", "x-gzip"):
        return partial(inflated, limits=limits)
    raise FetchFailed(
        f"{FIELD}: {target.origin} packed its answer in a way that was not asked for",
        limit="identity",
        actual=shown(encoding[:40]),
    )


async def _read(answer: httpcore.Response, target: Target) -> AsyncGenerator[bytes, None]:
    """Raises `FetchFailed` also for a body that is longer than was announced: what was announced is then not
    the file."""
    piece = b""
    with readable_failures(FIELD, target):
        async for piece in answer.aiter_stream():
            yield piece
    stream = answer.extensions.get("network_stream")
    announced = "content-length" in httpx.Headers(answer.headers)
    if announced and isinstance(stream, WatchedStream) and not stream.last_read.endswith(piece):
        raise FetchFailed(f"{FIELD}: {target.origin} sent more than it announced")


async def _unchanged(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async for piece in pieces:
        yield piece


def _joined(target: Target, location: str) -> str:
    """Where a redirect leads. It is checked like any URL; here it only becomes a whole one."""
    location = quote(location, safe=string.punctuation)
    if scheme_of(location):
        return location
    if location.startswith("//"):
        return f"{target.scheme}:{location}"
    try:
        return str(target.url.join(location))
    except httpx.InvalidURL:
        raise FetchFailed(f"{FIELD}: {target.origin} redirects to what is not a URL") from None


def check_head(head: bytes) -> None:
    """Raises `ImageRejected` for what cannot be an image. Of the formats in an `ftyp` box, which may need an
    extra package, the decoder knows which it reads."""
    if not head:
        raise NotAnImage("the image is empty (0 bytes)")
    if head[4:8] != b"ftyp":
        formats.recognise(head)
