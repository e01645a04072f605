"""Streams of NATS: made, and brought to this version's settings. Any number of replicas may do it at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.nats.connection import NAME_IN_USE, Connection
from upscaled_server.state.nats.settings import ClusterSettings

REPLICATING_SINCE = (2, 10, 25)
"""The nats-server that several replicas need. 2.9.10 stores both of two changes of one version that are under
way at once (nats-server issue 4320), and numbers messages differently on replicas that were started again;
2.10.25, 2.11.11, 2.12.8, 2.14.6 and 2.15.1 did neither when it was tried. With one replica 2.9.10 is exact
too."""

DUPLICATES_SECONDS = 120.0
"""How long a message's id is remembered: far longer than a message is sent again."""

# What is brought to this version's values where an older one made the stream.
_CHANGEABLE = ("num_replicas", "max_bytes", "duplicate_window", "allow_direct", "description")
_FIXED = ("subjects", "retention", "storage", "max_msgs_per_subject", "discard")


def check_server(connection: Connection, settings: ClusterSettings) -> None:
    """Raises `FailedPrecondition` for a nats-server that cannot keep as many replicas."""
    found, needed = connection.server_version, ".".join(map(str, REPLICATING_SINCE))
    if settings.cluster_replicas > 1 and found < REPLICATING_SINCE:
        shown = ".".join(map(str, found))
        raise FailedPrecondition(
            f"UPSCALED_CLUSTER_REPLICAS: nats-server {shown} at {connection.shown} may lose changes "
            f"that it replicates; use nats-server {needed} or later, or one replica",
            found=shown,
            needed=needed,
        )


async def ensure_stream(connection: Connection, wanted: StreamConfig, bytes_setting: str) -> None:
    """Raises `FailedPrecondition` for a stream that is not ours, or cannot be had as the settings ask;
    `bytes_setting` is the variable that its `max_bytes` comes from."""
    try:
        await _ensure(connection, wanted)
    except APIError as error:
        raise refused(connection, wanted, bytes_setting, error) from None


async def _ensure(connection: Connection, wanted: StreamConfig) -> None:
    name = str(wanted.name)
    try:
        found = (await connection.ask(lambda js: js.stream_info(name))).config
    except NotFoundError:
        try:
            await connection.ask(lambda js: js.add_stream(wanted))
            return
        except APIError as error:
            # Another replica was faster, with other settings.
            if error.err_code != NAME_IN_USE:
                raise
        found = (await connection.ask(lambda js: js.stream_info(name))).config
    if any(_plain(found)[each] != _plain(wanted)[each] for each in _FIXED):
        raise FailedPrecondition(
            f"UPSCALED_CLUSTER_PREFIX: the stream {name} of NATS is not one of upscaled; "
            "choose another prefix",
            stream=name,
        )
    changes = {each: getattr(wanted, each) for each in _CHANGEABLE}
    if any(getattr(found, each) != value for each, value in changes.items()):
        await connection.ask(lambda js: js.update_stream(found.evolve(**changes)))


def refused(
    connection: Connection, wanted: StreamConfig, bytes_setting: str, error: APIError
) -> FailedPrecondition:
    return FailedPrecondition(
        f"UPSCALED_CLUSTER_REPLICAS, {bytes_setting}: NATS ({connection.shown}) refuses the stream "
        f"{wanted.name} with {wanted.num_replicas} replicas and {wanted.max_bytes} bytes: "
        f"{error.description}",
        replicas=wanted.num_replicas or 0,
        max_bytes=wanted.max_bytes or 0,
        code=error.err_code or 0,
    )


def _plain(config: StreamConfig) -> dict[str, Any]:
    return asdict(config)
