"""The stream behind the bucket: made, checked, and brought to this version's schema and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.nats.connection import WRONG_LAST_SEQUENCE, Connection
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.streams import DUPLICATES_SECONDS, check_server, ensure_stream, refused
from upscaled_server.state.nats.subjects import SCHEMA, Subjects

SCHEMA_VERSION = 1

_BYTES_SETTING = "UPSCALED_CLUSTER_MAX_STATE_BYTES"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Opens the bucket `PREFIX-state`."""

    connection: Connection
    settings: ClusterSettings

    @property
    def subjects(self) -> Subjects:
        return Subjects(f"{self.settings.cluster_prefix}-state")

    async def open(self) -> None:
        """Any number of replicas may do this at once. Raises `FailedPrecondition` for a bucket that is not
        ours or cannot be had as the settings ask."""
        check_server(self.connection, self.settings)
        await ensure_stream(self.connection, self._config(), _BYTES_SETTING)
        await self._check_schema()

    def _config(self) -> StreamConfig:
        """What NATS's own tools make for a bucket with a history of 1."""
        return StreamConfig(
            name=self.subjects.stream,
            description="State of upscaled",
            subjects=[self.subjects.all],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=self.settings.cluster_replicas,
            max_bytes=self.settings.cluster_max_state_bytes,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            duplicate_window=DUPLICATES_SECONDS,
            allow_rollup_hdrs=True,
            deny_delete=True,
            allow_direct=True,
        )

    async def _check_schema(self) -> None:
        subject = self.subjects.of(SCHEMA)
        value = json.dumps({"version": SCHEMA_VERSION}).encode()

        async def create(js: JetStreamContext) -> None:
            await js.publish(subject, value, headers={Header.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"})

        try:
            await self.connection.ask(create)
        except APIError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise refused(self.connection, self._config(), _BYTES_SETTING, error) from None
        message = await self.connection.ask(lambda js: js.get_msg(self.subjects.stream, subject=subject))
        found = json.loads(message.data or b"{}").get("version", 0)
        if not 0 < found <= SCHEMA_VERSION:
            raise FailedPrecondition(
                f"UPSCALED_CLUSTER_PREFIX: the bucket {self.subjects.bucket} was written by a newer version "
                f"(schema {found}; this version knows 1 to {SCHEMA_VERSION}); start that version, or choose "
                "another prefix",
                schema=found,
                known=SCHEMA_VERSION,
            )
