"""One connection to NATS that is kept up, whatever happens to it, and what is asked over it.

nats-py connects again by itself, but closes for good on some errors of the protocol: then a new client takes
its place.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from upscaled_server.errors import FailedPrecondition, Overloaded, ProcessingFailed, Unavailable
from upscaled_server.state.nats import credentials
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.tasks import cancel_for_certain, heeding_cancellation, within
from upscaled_server.state.store import MAX_VALUE_BYTES

_T = TypeVar("_T")

_LOG = logging.getLogger(__name__)

# An answer takes a few milliseconds; what is lost with a node or its leadership never comes.
_ATTEMPT_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
_LOST_SECONDS = 1.0
"""How long a call waits for a lost connection to come back, as it does from another node at once."""
_OVERDUE_SECONDS = 1.0
"""What a call may take while those before it were in vain, such as without a quorum."""
_AGAIN_SECONDS = 0.5
_PING_SECONDS = 5
"""Two that are not answered end a connection whose other side is gone without a word."""
_FULL_RETRY_SECONDS = 30.0
_MAX_IN_FLIGHT = 128

# Room for subject and headers beside the largest value.
_MIN_PAYLOAD_BYTES = MAX_VALUE_BYTES + (16 << 10)

# Error codes of JetStream.
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
DUPLICATE_IN_PROCESS = frozenset({10158})
NAME_IN_USE = 10058
_FULL = frozenset({10023, 10047, 10077, 10122})
"""Storage or its limit is used up. It has the status of a server that is not ready, but asking again does
not help."""

_IN_VAIN = (
    TimeoutError,
    OSError,
    NoStreamResponseError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
)


class Connection:
    """`open` it. Calls raise `Unavailable` where NATS cannot be reached or does not answer in time,
    `Overloaded` where its storage is used up, `ProcessingFailed` for what it refuses."""

    def __init__(self, settings: ClusterSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._client = Client()
        self._js = self._client.jetstream()
        self._up = asyncio.Event()
        self._lost_at: float | None = None
        self._overdue = False
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.times = 0
        """How often there was a new connection: what was subscribed over another may be gone."""
        self._attempts: set[asyncio.Timeout] = set()
        self._in_flight = asyncio.Semaphore(_MAX_IN_FLIGHT)

    @classmethod
    async def open(cls, settings: ClusterSettings) -> Connection:
        """Raises `FailedPrecondition` for settings that can never work, `Unavailable` where nobody
        answers."""
        connection = cls(settings)
        problem: list[Exception] = []
        try:
            await connection._connect(problem)
        except BaseException:  # an interrupt too
            await connection.aclose()
            raise
        connection._keeper = asyncio.create_task(connection._keep_up(), name="nats connection")
        return connection

    async def aclose(self) -> None:
        self._closing = True
        if self._keeper is not None:
            await cancel_for_certain(self._keeper)
        await _close(self._client)

    @property
    def client(self) -> Client:
        """The one of now."""
        return self._client

    @property
    def server_version(self) -> tuple[int, int, int]:
        """Of the server that the connection leads to."""
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    @property
    def shown(self) -> str:
        """The servers, without passwords."""
        return ", ".join(_shown(each) for each in self._settings.servers)

    async def until_up(self) -> None:
        await self._up.wait()

    @asynccontextmanager
    async def deadline(self, doing: str) -> AsyncIterator[None]:
        """For everything that is asked within; raises `Unavailable` when the time is up.

        Once that has happened the next calls have 1 second each, until one succeeds: who calls is not kept
        waiting for a cluster that does not answer.
        """
        seconds = self._settings.cluster_timeout_seconds
        if self._overdue:
            seconds = min(seconds, _OVERDUE_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            self._overdue = True
            raise Unavailable(
                f"NATS ({self.shown}) did not answer within {seconds:g} s: {doing}; a change that was asked "
                "for may have happened; try again",
                timeout_seconds=seconds,
            ) from None

    async def ask(self, once: Callable[[JetStreamContext], Awaitable[_T]]) -> _T:
        """What one attempt answers. `once` is repeated until one is answered, or the deadline around this
        passes; so it must be something that may happen twice."""
        while True:
            js = await self._ready()
            try:
                async with self._in_flight, self._attempt():
                    answer = await heeding_cancellation(once(js))
            except APIError as error:
                if error.err_code in _FULL:
                    raise self._full(error) from None
                if not isinstance(error, ServiceUnavailableError):
                    raise
            except _IN_VAIN:
                pass
            except nats.errors.Error as error:
                raise ProcessingFailed(f"NATS ({self.shown}) refused a request: {error}") from error
            else:
                self._overdue = False
                return answer
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ready(self) -> JetStreamContext:
        if not self._client.is_connected:
            if self._closing:
                raise Unavailable("the store is closed: the server is stopping")
            left = _LOST_SECONDS - (0.0 if self._lost_at is None else self._clock() - self._lost_at)
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._up.wait()
            except TimeoutError:
                raise self._lost() from None
        return self._js

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[None]:
        """An attempt ends with its connection: what was asked over that is not answered any more."""
        async with asyncio.timeout(_ATTEMPT_SECONDS) as scope:
            self._attempts.add(scope)
            try:
                yield
            finally:
                self._attempts.discard(scope)

    async def _keep_up(self) -> None:
        while True:
            await self._ended.wait()
            self._ended.clear()
            _LOG.warning("NATS (%s) ended the connection; connecting anew", self.shown)
            while not self._client.is_connected:
                try:
                    await self._connect([])
                except (Unavailable, FailedPrecondition) as error:
                    _LOG.debug("%s", error.message)
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def _connect(self, problems: list[Exception]) -> None:
        client = Client()

        async def on_error(error: Exception) -> None:
            # What NATS says of a client tells more than that it then hangs up.
            if not (isinstance(error, OSError) and problems and isinstance(problems[0], nats.errors.Error)):
                problems[:] = [error]
            _LOG.debug("NATS: %s", error)

        async def on_disconnected() -> None:
            self._on_lost(client)

        async def on_reconnected() -> None:
            self._on_up(client)

        async def on_closed() -> None:
            self._on_lost(client)
            if client is self._client and not self._closing:
                self._ended.set()

        seconds = self._settings.cluster_timeout_seconds
        try:
            await within(
                seconds,
                client.connect(
                    servers=self._settings.servers,
                    name="upscaled",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_AGAIN_SECONDS,  # type: ignore[arg-type]
                    connect_timeout=2,
                    ping_interval=_PING_SECONDS,
                    max_outstanding_pings=2,
                    error_cb=on_error,
                    disconnected_cb=on_disconnected,
                    reconnected_cb=on_reconnected,
                    closed_cb=on_closed,
                    **self._credentials(),
                ),
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await _close(client)
            cause = problems[-1] if problems else error
            raise Unavailable(
                f"UPSCALED_CLUSTER_URL: no connection to NATS at {self.shown} within {seconds:g} s: "
                f"{cause or type(cause).__name__}",
                timeout_seconds=seconds,
            ) from None
        except BaseException:  # an interrupt too
            await _close(client)
            raise
        if client.max_payload < _MIN_PAYLOAD_BYTES:
            limit = client.max_payload
            await _close(client)
            raise FailedPrecondition(
                f"UPSCALED_CLUSTER_URL: the max_payload of NATS at {self.shown} is {limit} bytes; "
                f"{_MIN_PAYLOAD_BYTES} are needed at least: set it to 1MB there",
                limit=limit,
                needed=_MIN_PAYLOAD_BYTES,
            )
        self._client = client
        self._js = client.jetstream(timeout=2 * _ATTEMPT_SECONDS)
        self._on_up(client)

    def _credentials(self) -> dict[str, Any]:
        """Raises `FailedPrecondition` for files that cannot be used."""
        given: dict[str, Any] = {}
        settings = self._settings
        if settings.cluster_credentials_file is not None:
            given |= credentials.options(settings.cluster_credentials_file)
        if settings.cluster_ca_file is not None or settings.cluster_url.startswith("tls://"):
            try:
                given["tls"] = ssl.create_default_context(cafile=settings.cluster_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise FailedPrecondition(
                    f"UPSCALED_CLUSTER_CA_FILE: cannot read {settings.cluster_ca_file}: {error}",
                    path=str(settings.cluster_ca_file),
                ) from None
        return given

    def _on_up(self, client: Client) -> None:
        if client is not self._client:
            return
        if self._lost_at is not None:
            _LOG.info("connected to NATS again after %.1f s", self._clock() - self._lost_at)
        self._lost_at = None
        self.times += 1
        self._up.set()

    def _on_lost(self, client: Client) -> None:
        if client is not self._client or self._closing:
            return
        if self._lost_at is None:
            self._lost_at = self._clock()
            _LOG.warning("the connection to NATS (%s) is lost", self.shown)
        self._up.clear()
        now = asyncio.get_running_loop().time()
        for attempt in self._attempts:
            if not attempt.expired():
                attempt.reschedule(now)

    def _lost(self) -> Unavailable:
        since = 0.0 if self._lost_at is None else self._clock() - self._lost_at
        return Unavailable(
            f"no connection to NATS ({self.shown}) for {since:.1f} s; it is made again as soon as NATS can "
            "be reached: see that UPSCALED_CLUSTER_URL names its servers and that they run",
            lost_seconds=round(since, 1),
        )

    def _full(self, error: APIError) -> Overloaded:
        return Overloaded(
            f"the storage of NATS ({self.shown}) is used up: {error.description}; raise "
            "UPSCALED_CLUSTER_MAX_STATE_BYTES or UPSCALED_CLUSTER_MAX_QUEUE_BYTES, or give NATS more",
            retry_after_seconds=_FULL_RETRY_SECONDS,
        )


async def _close(client: Client) -> None:
    """Whatever state it is in; nats-py asserts that it was connected once."""
    with suppress(nats.errors.Error, OSError, TimeoutError, AssertionError):
        async with asyncio.timeout(_LOST_SECONDS):
            await client.close()


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2]
