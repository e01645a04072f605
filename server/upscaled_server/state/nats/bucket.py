"""The stream behind the bucket: made, checked, and brought to this version's schema and settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.nats.connection import NAME_IN_USE, WRONG_LAST_SEQUENCE, Connection
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.subjects import SCHEMA, Subjects

SCHEMA_VERSION = 1

REPLICATING_SINCE = (2, 10, 25)
"""The nats-server that several replicas need. 2.9.10 stores both of two changes of one version that are under
way at once (nats-server issue 4320), and numbers messages differently on replicas that were started again;
2.10.25, 2.11.11, 2.12.8, 2.14.6 and 2.15.1 did neither when it was tried. With one replica 2.9.10 is exact
too."""

_DUPLICATES_SECONDS = 120.0
"""How long a message's id is remembered: far longer than a change is tried again."""

# Besides the settings, what is brought to this version's values where an older one made the stream.
_CHANGEABLE = ("num_replicas", "max_bytes", "duplicate_window", "allow_direct", "description")
_FIXED = ("subjects", "retention", "storage", "max_msgs_per_subject", "discard")


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
        self._check_server()
        try:
            await self._ensure_stream()
        except APIError as error:
            raise self._refused(error) from None
        await self._check_schema()

    def _check_server(self) -> None:
        found, needed = self.connection.server_version, ".".join(map(str, REPLICATING_SINCE))
        if self.settings.cluster_replicas > 1 and found < REPLICATING_SINCE:
            shown = ".".join(map(str, found))
            raise FailedPrecondition(
                f"UPSCALED_CLUSTER_REPLICAS: nats-server {shown} at {self.connection.shown} may lose changes "
                f"that it replicates; use nats-server {needed} or later, or one replica",
                found=shown,
                needed=needed,
            )

    async def _ensure_stream(self) -> None:
        wanted = self._config()
        try:
            found = (await self.connection.ask(lambda js: js.stream_info(self.subjects.stream))).config
        except NotFoundError:
            try:
                await self.connection.ask(lambda js: js.add_stream(wanted))
                return
            except APIError as error:
                # Another replica was faster, with other settings.
                if error.err_code != NAME_IN_USE:
                    raise
            found = (await self.connection.ask(lambda js: js.stream_info(self.subjects.stream))).config
        if any(_plain(found)[name] != _plain(wanted)[name] for name in _FIXED):
            raise FailedPrecondition(
                f"UPSCALED_CLUSTER_PREFIX: the stream {self.subjects.stream} of NATS is not one of upscaled; "
                "choose another prefix",
                stream=self.subjects.stream,
            )
        changes = {name: getattr(wanted, name) for name in _CHANGEABLE}
        if any(getattr(found, name) != value for name, value in changes.items()):
            await self.connection.ask(lambda js: js.update_stream(found.evolve(**changes)))

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
            duplicate_window=_DUPLICATES_SECONDS,
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
                raise self._refused(error) from None
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

    def _refused(self, error: APIError) -> FailedPrecondition:
        return FailedPrecondition(
            f"UPSCALED_CLUSTER_REPLICAS, UPSCALED_CLUSTER_MAX_STATE_BYTES: NATS ({self.connection.shown}) "
            f"refuses the bucket {self.subjects.bucket} with {self.settings.cluster_replicas} replicas and "
            f"{self.settings.cluster_max_state_bytes} bytes: {error.description}",
            replicas=self.settings.cluster_replicas,
            max_bytes=self.settings.cluster_max_state_bytes,
            code=error.err_code or 0,
        )


def _plain(config: StreamConfig) -> dict[str, Any]:
    return asdict(config)
