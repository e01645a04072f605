"""A cluster: nodes of NATS by name, an object store, servers that share both, and Envoy where wanted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.api import StreamState

from tests.cluster.edge import edge
from tests.cluster.replica import Replica
from tests.nats_servers import NatsServer, nats_cluster
from tests.ports import free_ports
from tests.s3_server import S3Server, s3_server
from upscaled_server.access.keys import generate

PREFIX = "upscaled"
_CREDITS = 1e9
_START_SECONDS = 60.0
STATE_STREAM = f"KV_{PREFIX}-state"

# Every server cuts images alike, so that any of them gives the same bytes, and leaves cores to the others.
ALIKE = {
    "UPSCALED_THREADS": "1",
    "UPSCALED_MEMORY_BUDGET_BYTES": str(512 << 20),
    "UPSCALED_WORKER_NICE": "0",
}
_SETTINGS = {
    **ALIKE,
    "UPSCALED_CLUSTER_PREFIX": PREFIX,
    "UPSCALED_MIN_FREE_BYTES": "0",
    "UPSCALED_CLUSTER_MAX_STATE_BYTES": str(512 << 20),
    "UPSCALED_MAX_QUEUED_JOBS_PER_CALLER": "100000",
}


@dataclass
class Cluster:
    """`folder` has the logs of all; `keys` are those of the callers, by name; `address` is where they reach
    it, of Envoy if that is there."""

    folder: Path
    nodes: dict[str, NatsServer]
    s3: S3Server
    bucket: str
    replicas: list[Replica] = field(default_factory=list)
    keys: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes.values()]

    async def leader(self, stream: str = STATE_STREAM) -> NatsServer | None:
        """The node that leads a stream; None where nobody says."""
        async with _client(self.urls) as client:
            info = await client.jetstream().stream_info(stream)
            return self.nodes.get(info.cluster.leader or "") if info.cluster else None

    async def state_of(self, stream: str) -> StreamState:
        """How many messages it has, of how many bytes; and the number of the newest, which only grows."""
        async with _client(self.urls) as client:
            return (await client.jetstream().stream_info(stream)).state

    async def streams(self) -> list[str]:
        """Names of all streams, those of buckets too."""
        async with _client(self.urls) as client:
            return sorted(each.config.name or "" for each in await client.jetstream().streams_info())


@contextmanager
def cluster(
    folder: Path,
    *,
    replicas: int = 3,
    callers: Sequence[str] = (),
    with_edge: bool = False,
    **environ: str,
) -> Iterator[Cluster]:
    """All of it, serving; ended for certain."""
    with (
        unstarted(folder, replicas=replicas, callers=callers, **environ) as made,
        serving(made, with_edge=with_edge),
    ):
        yield made


@contextmanager
def serving(made: Cluster, *, with_edge: bool = False) -> Iterator[None]:
    """Start all servers; `unstarted` ends them."""
    for replica in made.replicas:
        replica.start()
    for replica in made.replicas:
        replica.wait()
    addresses = [each.address for each in made.replicas]
    made.address = f"ipv4:{','.join(addresses)}"
    with ExitStack() as stack:
        if with_edge:
            made.address = stack.enter_context(edge(addresses))
        yield


@contextmanager
def unstarted(
    folder: Path, *, replicas: int, callers: Sequence[str] = (), **environ: str
) -> Iterator[Cluster]:
    """What servers share, and servers that are yet to be started. Not from within a running event loop."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Nodes tell clients of each other, which would lead around a proxy.
        nodes = stack.enter_context(nats_cluster(folder / "nats", options="no_advertise: true"))
        asyncio.run(_elected([node.url for node in nodes.values()]))
        s3 = stack.enter_context(s3_server(folder))
        made = Cluster(folder, nodes, s3, s3.new_bucket())
        made.keys = {caller: generate() for caller in callers}
        shared = {
            **_SETTINGS,
            **s3.environment,
            "UPSCALED_BLOBS_URL": f"s3://{made.bucket}",
            "UPSCALED_CLUSTER_URL": ",".join(made.urls),
            **({"UPSCALED_API_KEYS_FILE": str(_write_keys(folder, made.keys))} if callers else {}),
            **environ,
        }
        for number, port in enumerate(free_ports(replicas)):
            name = f"replica-{number}"
            replica = Replica(name, folder / name, f"127.0.0.1:{port}", shared)
            stack.callback(replica.kill)
            made.replicas.append(replica)
        yield made


def _write_keys(folder: Path, keys: Mapping[str, str]) -> Path:
    """As a Secret that is mounted into all servers."""
    path = folder / "keys.yaml"
    callers = {name: {"keys": [key], "monthly_credits": _CREDITS} for name, key in keys.items()}
    path.write_text(json.dumps(callers))
    return path


async def _elected(urls: Sequence[str]) -> None:
    """Nodes that have just started have no leader yet, and make no streams."""
    async with asyncio.timeout(_START_SECONDS), _client(urls) as client:
        while True:
            try:
                await client.jetstream().account_info()
                return
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.1)


@asynccontextmanager
async def _client(urls: Sequence[str]) -> AsyncIterator[Client]:
    """Which of the nodes are away is known here."""

    async def on_error(_: Exception) -> None:
        pass

    client = await nats.connect(list(urls), connect_timeout=2, allow_reconnect=False, error_cb=on_error)
    try:
        yield client
    finally:
        await client.close()
