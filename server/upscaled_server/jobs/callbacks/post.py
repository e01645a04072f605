"""One try at telling a receiver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpcore
import httpx

from upscaled_server.errors import FetchFailed, UrlRefused
from upscaled_server.intake.fetch.allowed import Openings
from upscaled_server.intake.fetch.guard import Guard
from upscaled_server.intake.fetch.resolver import Resolver, SystemResolver
from upscaled_server.intake.fetch.transport import GuardedTransport
from upscaled_server.jobs.callbacks.schedule import read_retry_after
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.jobs.callbacks.signature import signed_headers

FIELD = "callback_url"
_CONNECT_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """`http_status` is 0 where nobody answered. `retry_after` in seconds, None where it was not asked for."""

    http_status: int = 0
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return 200 <= self.http_status < 300

    @property
    def gone(self) -> bool:
        """The receiver wants to hear no more."""
        return self.http_status == 410


class Poster:
    """Redirects are not followed, and nothing of the answer but its status is read."""

    def __init__(
        self,
        settings: CallbackSettings,
        secrets_of: Callable[[str], Sequence[bytes]],
        *,
        resolver: Resolver | None = None,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._seconds = settings.callback_seconds
        self._secrets_of = secrets_of
        self._resolver: Resolver = resolver or SystemResolver()
        self._guard = Guard(
            self._resolver,
            Openings(settings.callback_allow, settings.callback_ports),
            field=FIELD,
            schemes=frozenset({"http", "https"} if settings.callback_http else {"https"}),
        )
        self._transport = GuardedTransport(self._guard, proxy=settings.callback_proxy or None, dial=dial)

    def origin(self, url: str) -> str:
        """Scheme, host and port. Raises `UrlRefused` for a URL that would never be called."""
        return self._guard.check(url).origin

    async def post(self, url: str, body: bytes, *, caller: str, message: str, now: float) -> Answer:
        """Whatever goes wrong is an answer of status 0."""
        try:
            target = self._guard.check(url)
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "upscaled",
                "Accept-Encoding": "identity",
                "Connection": "close",
                **signed_headers(message, now, body, self._secrets_of(caller)),
            }
            request = httpx.Request("POST", target.url, headers=headers, content=body)
            exchange = self._transport.exchange(
                target,
                request,
                connect_seconds=min(_CONNECT_SECONDS, self._seconds),
                idle_seconds=self._seconds,
            )
            async with asyncio.timeout(self._seconds), exchange as answer:
                asked = httpx.Headers(answer.headers).get("retry-after", "")
                return Answer(answer.status, read_retry_after(asked, now))
        except (FetchFailed, UrlRefused) as error:
            _LOG.info("%s is not delivered: %s", message, error.message)
        except TimeoutError:
            _LOG.info(
                "%s is not delivered: %s does not answer within %g s", message, target.origin, self._seconds
            )
        return Answer()

    async def aclose(self) -> None:
        await self._transport.aclose()
        self._resolver.close()
