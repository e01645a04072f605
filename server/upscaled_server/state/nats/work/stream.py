"""The streams and consumers behind a queue: made, checked, and brought to the settings.

The stream `PREFIX-NAME` holds each item until it is done. One durable consumer for every lane hands its items
out. The server tells of an item that it handed out too often, and hands it out no more: a stream of its own
keeps that news until somebody has dealt with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError

from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.streams import DUPLICATES_SECONDS, check_server, ensure_stream, refused
from upscaled_server.state.nats.work.lane import Lane

_BYTES_SETTING = "UPSCALED_CLUSTER_MAX_QUEUE_BYTES"

MAX_LANES = 64
"""Their consumers must fit in one answer of NATS, which lists 256."""

_MAX_HELD = 1 << 16
"""Items of a lane that are handed out, or were given back for later, at once."""

_DEAD_BYTES = 16 << 20
_DEAD_LEASE_SECONDS = 60.0
DEAD_CONSUMER = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkStream:
    settings: ClusterSettings
    name: str
    lease_seconds: float
    max_deliveries: int
    lanes: int

    @property
    def stream(self) -> str:
        return f"{self.settings.cluster_prefix}-{self.name}"

    @property
    def dead_stream(self) -> str:
        return f"{self.stream}-dead"

    @property
    def stored_subject(self) -> str:
        """Not kept: which lane something was put in."""
        return f"{self.stream}.stored"

    @property
    def held_subject(self) -> str:
        """Not kept: how many items a replica has."""
        return f"{self.stream}.held"

    def subject(self, lane: Lane) -> str:
        return f"{self.stream}.{lane.name}"

    def lane(self, subject: str) -> Lane | None:
        """None for a subject of something else."""
        lane = Lane.named(subject.removeprefix(f"{self.stream}."))
        return lane if lane is not None and lane.number < self.lanes else None

    async def ensure(self, connection: Connection) -> None:
        """Any number of replicas may do this at once. Raises `FailedPrecondition` for streams that are not
        ours or cannot be had as the settings ask, and what the connection raises."""
        check_server(connection, self.settings)
        await ensure_stream(connection, self._config(), _BYTES_SETTING)
        await ensure_stream(connection, self._dead_config(), _BYTES_SETTING)
        try:
            await self._ensure_consumers(connection, self.stream, self._consumers())
            await self._ensure_consumers(connection, self.dead_stream, [self._dead_consumer()])
        except APIError as error:
            raise refused(connection, self._config(), _BYTES_SETTING, error) from None

    async def _ensure_consumers(
        self, connection: Connection, stream: str, wanted: list[ConsumerConfig]
    ) -> None:
        found = {
            info.name: info.config for info in await connection.ask(lambda js: js.consumers_info(stream))
        }

        async def make(config: ConsumerConfig) -> None:
            await connection.ask(lambda js: js.add_consumer(stream, config))

        await asyncio.gather(
            *(make(config) for config in wanted if not _is_as_wanted(found.get(str(config.name)), config))
        )

    def _config(self) -> StreamConfig:
        return StreamConfig(
            name=self.stream,
            description="Work of upscaled",
            subjects=[f"{self.stream}.urgent.*", f"{self.stream}.batch.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=self.settings.cluster_replicas,
            max_bytes=self.settings.cluster_max_queue_bytes,
            max_msgs_per_subject=-1,
            discard=DiscardPolicy.NEW,
            duplicate_window=DUPLICATES_SECONDS,
            allow_direct=False,
        )

    def _dead_config(self) -> StreamConfig:
        return StreamConfig(
            name=self.dead_stream,
            description="Work of upscaled that was tried too often",
            subjects=[f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{self.stream}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=self.settings.cluster_replicas,
            max_bytes=_DEAD_BYTES,
            max_msgs_per_subject=-1,
            discard=DiscardPolicy.OLD,
            duplicate_window=DUPLICATES_SECONDS,
            allow_direct=False,
        )

    def _consumers(self) -> list[ConsumerConfig]:
        lanes = [Lane(urgent, number) for urgent in (True, False) for number in range(self.lanes)]
        return [
            ConsumerConfig(
                name=lane.consumer,
                durable_name=lane.consumer,
                filter_subject=self.subject(lane),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self.lease_seconds,
                max_deliver=self.max_deliveries,
                max_ack_pending=_MAX_HELD,
            )
            for lane in lanes
        ]

    def _dead_consumer(self) -> ConsumerConfig:
        return ConsumerConfig(
            name=DEAD_CONSUMER,
            durable_name=DEAD_CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_DEAD_LEASE_SECONDS,
            max_deliver=-1,
            max_ack_pending=_MAX_HELD,
        )


def _is_as_wanted(found: ConsumerConfig | None, wanted: ConsumerConfig) -> bool:
    return found is not None and (found.ack_wait, found.max_deliver, found.max_ack_pending) == (
        wanted.ack_wait,
        wanted.max_deliver,
        wanted.max_ack_pending,
    )
