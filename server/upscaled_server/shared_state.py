"""Wires what a server keeps beside its files: a database of its own, or a cluster that it shares."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.jobs.build import Sharing
from upscaled_server.jobs.shared_queue import Dead, Lease
from upscaled_server.state.duty import Alone, Duty, Elected
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.sqlite import SqliteStore
from upscaled_server.state.store import Store
from upscaled_server.storage.settings import StorageSettings

if TYPE_CHECKING:
    from upscaled_server.state.nats.news import NatsNews
    from upscaled_server.state.nats.work.queue import WorkQueue

log = logging.getLogger(__name__)

_T = TypeVar("_T")

DATABASE: Final = "state.db"

_LOOK_SECONDS: Final = 0.5
_IMPAIRED_SECONDS: Final = 2.0
_OPENINGS: Final = 4


@dataclass(frozen=True, slots=True)
class State:
    """`cluster`: what is shared beside the store; None for a server by itself."""

    store: Store
    cluster: Cluster | None = None

    def duty(self, name: str) -> Duty:
        """Work that one server at a time does."""
        if self.cluster is None:
            return Alone()
        return Elected(self.store, name, owner=f"{socket.gethostname()} {os.getpid()}")

    def sharing(self, pending_seconds: Callable[[], float]) -> Sharing | None:
        """How jobs are shared."""
        if self.cluster is None:
            return None
        return Sharing(
            JobStream(self.cluster.work),
            self.cluster.news,
            self.duty("abandoned-jobs"),
            pending_seconds,
            self.cluster.settings.cluster_ahead_seconds,
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """One connection each, so that much of one kind does not hold up the others."""

    settings: ClusterSettings
    work: WorkQueue
    news: NatsNews

    async def tell_whether_connected(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """For ever: False once it could not be reached for two seconds, which an election takes at times."""
        loop, connected, since = asyncio.get_running_loop(), True, 0.0
        while True:
            if self.work.connected:
                since = loop.time()
            if connected is not (now := loop.time() - since < _IMPAIRED_SECONDS):
                connected = now
                await tell(now)
            await asyncio.sleep(_LOOK_SECONDS)


def check_state(settings: ClusterSettings, storage: StorageSettings | None = None) -> None:
    """Raises `FailedPrecondition` for what `open_state` would refuse before it asks anybody."""
    if not settings.cluster_url:
        return
    if storage is not None and not storage.blobs_url:
        raise FailedPrecondition(
            "UPSCALED_BLOBS_URL: servers that share UPSCALED_CLUSTER_URL must keep their files in one place: "
            "name a bucket (s3://, gs://, az://) or a folder that all of them see (file://)"
        )
    try:
        import upscaled_server.state.nats.store  # noqa: F401
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"UPSCALED_CLUSTER_URL needs the package {error.name}: pip install 'upscaled[cluster]'"
        ) from None


@asynccontextmanager
async def open_state(
    folder: Path, settings: ClusterSettings, storage: StorageSettings | None = None
) -> AsyncIterator[State]:
    """What `UPSCALED_CLUSTER_URL` names, else the database in the folder. Without `storage` only the store,
    for commands that administer it.

    Raises `FailedPrecondition` for what an operator must mend, `Unavailable` where NATS does not answer.
    """
    async with AsyncExitStack() as stack:
        if not settings.cluster_url:
            database = await SqliteStore.open(folder / DATABASE)
            stack.push_async_callback(database.aclose)
            yield State(database)
            return
        check_state(settings, storage)
        from upscaled_server.state.nats.news import NatsNews
        from upscaled_server.state.nats.store import NatsStore
        from upscaled_server.state.nats.work.queue import WorkQueue

        store = await NatsStore.open(settings)
        stack.push_async_callback(store.aclose)
        if storage is None:
            yield State(store)
            return
        # The store has answered, so that NATS is there: a leader may be elected just now.
        work = await _patiently(
            lambda: WorkQueue.open(
                settings,
                lease_seconds=settings.cluster_lease_seconds,
                max_deliveries=settings.cluster_max_deliveries,
            )
        )
        stack.push_async_callback(work.aclose)
        news = await _patiently(lambda: NatsNews.open(settings))
        stack.push_async_callback(news.aclose)
        log.info("one of the servers that share %s", work.shown)
        yield State(store, Cluster(settings, work, news))


async def _patiently(open_it: Callable[[], Awaitable[_T]]) -> _T:
    """What is opened, at the last of a few attempts. Raises `Unavailable`."""
    for _ in range(_OPENINGS - 1):
        try:
            return await open_it()
        except Unavailable as error:
            log.warning("the cluster is asked once more: %s", error.message)
    return await open_it()


@dataclass(frozen=True, slots=True)
class JobStream:
    """Jobs in the work queue: who knows the one need not know the other."""

    work: WorkQueue

    @property
    def waiting(self) -> int:
        return self.work.waiting

    async def put(self, item_id: str, owner: str, *, urgent: bool, cost: float) -> None:
        from upscaled_server.state.nats.work.item import Item

        await self.work.publish(Item(id=item_id, owner=owner, urgent=urgent, cost=cost))

    async def take(self) -> Lease | None:
        return await self.work.take()

    def dead(self) -> AsyncIterator[Dead]:
        return self.work.dead()

    def close(self) -> None:
        self.work.close()
