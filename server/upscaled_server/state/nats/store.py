"""The store that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NotFoundError

from upscaled_server.errors import ProcessingFailed, Unavailable
from upscaled_server.state.nats.bucket import Bucket
from upscaled_server.state.nats.connection import DUPLICATE_IN_PROCESS, WRONG_LAST_SEQUENCE, Connection
from upscaled_server.state.nats.feed import KEEP_DELETIONS_SECONDS, Feed
from upscaled_server.state.nats.messages import DELETION, change_headers, change_of, is_deletion
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.subjects import Subjects
from upscaled_server.state.nats.sweeper import Sweeper
from upscaled_server.state.nats.values import RecentValues
from upscaled_server.state.store import (
    MAX_RANGE,
    Entry,
    KeyExists,
    VersionChanged,
    check_key,
    check_limit,
    check_value,
)
from upscaled_server.state.watching import Watch, Watches

_AGAIN_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Message:
    """The last one of a key. `version` 0: there is none."""

    version: int
    value: bytes = b""
    deleted: bool = True
    change: str = ""


_NONE = _Message(0)


class NatsStore:
    """A `Store` in a bucket of NATS. `open` it; any number per bucket.

    Versions are the numbers of messages in the stream behind the bucket, which only grow. A change has
    returned when a majority of the nodes that keep the entry has it. They write it to their disks, and force
    it there within two minutes: a loss of power at a majority of them at once may take what came last.

    Reads are answered by the leader of the stream: a node that was cut off and does not know yet that it
    leads no more may answer with what was true before; never with less than this store has seen, and no
    change can be based on it. Ranges ask the leader how far the stream is, and wait until the keys in memory
    are as far.

    Besides what the interface names, calls raise `Unavailable` where NATS cannot be reached (within a
    second) or does not answer in time, `Overloaded` where its storage is used up, `ProcessingFailed` for
    what it refuses otherwise. All of it passes by itself when NATS is back.
    """

    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        *,
        keep_deletions_seconds: float,
        sweep_seconds: float,
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._watches = Watches()
        self._values = RecentValues()
        self._feed = Feed(
            connection, subjects, self._watches.tell, keep_deletions_seconds=keep_deletions_seconds
        )
        self._sweeper = Sweeper(
            connection,
            subjects,
            self._feed,
            every_seconds=sweep_seconds,
            keep_seconds=keep_deletions_seconds,
        )
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: ClusterSettings,
        *,
        keep_deletions_seconds: float = KEEP_DELETIONS_SECONDS,
        sweep_seconds: float = 60.0,
    ) -> NatsStore:
        """Makes the bucket where there is none. Returns when all keys are known.

        Raises `FailedPrecondition` for settings that cannot be met, `Unavailable` where nobody answers.
        """
        connection = await Connection.open(settings)
        store = None
        try:
            bucket = Bucket(connection, settings)
            async with connection.deadline("the bucket could not be opened"):
                await bucket.open()
            store = cls(
                connection,
                bucket.subjects,
                keep_deletions_seconds=keep_deletions_seconds,
                sweep_seconds=sweep_seconds,
            )
            await store._feed.start()
            await store._feed.built()
            await store._sweeper.start()
        except BaseException:  # an interrupt too
            await (connection if store is None else store).aclose()
            raise
        return store

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        await self._idle.wait()
        await self._sweeper.aclose()
        await self._feed.aclose()
        await self._connection.aclose()

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        async with self._call(f"{key} could not be read"):
            message = await self._last(key)
        return None if message.deleted else Entry(key, message.value, message.version)

    async def has(self, key: str) -> bool:
        check_key(key)
        return self._feed.keys.has(key)

    async def create(self, key: str, value: bytes) -> int:
        check_key(key)
        check_value(value)
        async with self._call(f"{key} could not be created"):
            expected = self._feed.keys.deletion_of(key)
            while True:
                with suppress(VersionChanged):
                    return await self._change(key, value, expected)
                last = await self._last(key)
                if not last.deleted:
                    raise KeyExists(f"{key} is there already", key=key)
                expected = last.version

    async def update(self, key: str, value: bytes, version: int) -> int:
        check_key(key)
        check_value(value)
        async with self._call(f"{key} could not be changed"):
            return await self._change(key, value, _existing(key, version))

    async def delete(self, key: str, version: int) -> None:
        check_key(key)
        async with self._call(f"{key} could not be deleted"):
            await self._change(key, None, _existing(key, version))

    async def range(
        self, prefix: str, *, after: str = "", limit: int = MAX_RANGE, reverse: bool = False
    ) -> list[Entry]:
        check_key(prefix)
        check_limit(limit)
        found: list[Entry] = []
        async with self._call(f"what is under {prefix}/ could not be read"):
            keys = await self._feed.current()
            while wanted := limit - len(found):
                page = keys.page(prefix, after, wanted, reverse=reverse)
                entries = await asyncio.gather(*(self._at(key, version) for key, version in page))
                # Those that were deleted since leave room for others.
                found += [entry for entry in entries if entry is not None]
                if len(page) < wanted:
                    break
                after = page[-1][0]
        return found

    def watch(self, prefix: str) -> Watch:
        check_key(prefix)
        return self._watches.open(prefix)

    async def _change(self, key: str, value: bytes | None, expected: int) -> int:
        """The version of the message that takes the place of `expected`; without a value it marks a deletion.
        Raises `VersionChanged`."""
        change = uuid4().hex
        headers = change_headers(change, expected) | (DELETION if value is None else {})
        subject, attempts = self._subjects.of(key), 0

        async def publish(js: JetStreamContext) -> PubAck:
            nonlocal attempts
            attempts += 1
            return await js.publish(subject, value or b"", headers=dict(headers))

        while True:
            try:
                ack = await self._connection.ask(publish)
                if not ack.duplicate:
                    version = ack.seq
                    break
            except APIError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE | DUPLICATE_IN_PROCESS:
                    raise self._refused(error) from error
                if attempts == 1:
                    raise _changed(key, expected) from None
            # An earlier attempt, whose answer was lost, may be what changed it.
            last = await self._last(key)
            if last.change == change:
                version = last.version
                break
            if last.version != expected:
                raise self._unsure(key)
            await asyncio.sleep(_AGAIN_SECONDS)
        self._noted(key, version, value)
        return version

    def _noted(self, key: str, version: int, value: bytes | None) -> None:
        if self._feed.keys.apply(key, version, deleted=value is None):
            self._watches.tell(key)
        if value is not None:
            self._values.put(version, value)

    async def _last(self, key: str) -> _Message:
        """As the leader has it."""
        subject = self._subjects.of(key)

        async def read(js: JetStreamContext) -> _Message:
            try:
                raw = await js.get_msg(self._subjects.stream, subject=subject)
            except NotFoundError:
                return _NONE
            return _Message(raw.seq or 0, raw.data or b"", is_deletion(raw.headers), change_of(raw.headers))

        while True:
            try:
                message = await self._connection.ask(read)
            except APIError as error:
                raise self._refused(error) from error
            # The marker of a deletion may have been removed.
            if message.version >= self._feed.keys.version_of(key) or (
                not message.version and self._feed.keys.deletion_of(key)
            ):
                return message
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _at(self, key: str, version: int) -> Entry | None:
        """The entry, which was at this version lately; any node may answer, as that never changes."""
        value = self._values.get(version)
        if value is None:
            value = await self._value(key, version)
        if value is not None:
            self._values.put(version, value)
            return Entry(key, value, version)
        last = await self._last(key)
        return None if last.deleted else Entry(key, last.value, last.version)

    async def _value(self, key: str, version: int) -> bytes | None:
        """None where the node has it no more, or not yet."""
        subject = self._subjects.of(key)

        async def read(js: JetStreamContext) -> bytes | None:
            try:
                raw = await js.get_msg(self._subjects.stream, seq=version, direct=True)
            except NotFoundError:
                return None
            return raw.data or b"" if raw.subject == subject else None

        try:
            return await self._connection.ask(read)
        except APIError as error:
            raise self._refused(error) from error

    @asynccontextmanager
    async def _call(self, doing: str) -> AsyncIterator[None]:
        if self._closed:
            raise Unavailable("the store is closed: the server is stopping")
        self._calls += 1
        self._idle.clear()
        try:
            async with self._connection.deadline(doing):
                yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    def _unsure(self, key: str) -> Unavailable:
        return Unavailable(
            f"{key} was changed by somebody else while an answer of NATS ({self._connection.shown}) was "
            "lost: this change may have come before that; read it again",
            key=key,
        )

    def _refused(self, error: APIError) -> ProcessingFailed:
        return ProcessingFailed(
            f"NATS ({self._connection.shown}) refused a request: {error.description or error}",
            code=error.err_code or error.code or 0,
        )


def _existing(key: str, version: int) -> int:
    """Messages are numbered from 1, and 0 would stand for an entry that is not there."""
    if version < 1:
        raise _changed(key, version)
    return version


def _changed(key: str, version: int) -> VersionChanged:
    return VersionChanged(f"{key} has been changed since it was read", key=key, version=version)
