"""A cluster: nodes of NATS by name, an object store, servers that share both, and Envoy where wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import nats
import nats.errors

from tests.cluster.edge import edge
from tests.cluster.object_store import ObjectStore, object_store
from tests.cluster.replica import Replica
from tests.nats_servers import NatsServer, free_ports, nats_cluster
from upscaled.v1 import admin_pb2, admin_pb2_grpc

PREFIX = "upscaled"
STATE_STREAM = f"KV_{PREFIX}-state"

# Every server cuts images alike, so that any of them gives the same bytes, and leaves cores to the others.
_SETTINGS = {
    "UPSCALED_CLUSTER_PREFIX": PREFIX,
    "UPSCALED_THREADS": "1",
    "UPSCALED_MEMORY_BUDGET_BYTES": str(512 << 20),
    "UPSCALED_MIN_FREE_BYTES": "0",
    "UPSCALED_CLUSTER_MAX_STATE_BYTES": str(512 << 20),
    "UPSCALED_MAX_QUEUED_JOBS_PER_CALLER": "100000",
}


@dataclass
class Cluster:
    """`folder` has the logs of all; `address` is where callers reach it, of Envoy if that is there."""

    folder: Path
    nodes: dict[str, NatsServer]
    objects: ObjectStore
    replicas: list[Replica] = field(default_factory=list)
    address: str = ""

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes.values()]

    def make_key(self, caller: str, **limits: object) -> str:
        """A key of a new caller, through the first server that runs."""
        replica = next(each for each in self.replicas if each.runs)
        with grpc.insecure_channel(f"unix:{replica.folder}/data/admin.sock") as channel:
            admin = admin_pb2_grpc.AdminStub(channel)
            message = admin_pb2.Caller(name=caller, **limits)  # type: ignore[arg-type]
            admin.CreateCaller(admin_pb2.CreateCallerRequest(caller=message), timeout=30)
            return admin.CreateKey(admin_pb2.CreateKeyRequest(caller=caller), timeout=30).secret

    async def leader(self, stream: str = STATE_STREAM) -> NatsServer | None:
        """The node that leads a stream; None where nobody says."""
        client = await nats.connect(self.urls, connect_timeout=2, allow_reconnect=False)
        try:
            info = await client.jetstream().stream_info(stream)
            return self.nodes.get(info.cluster.leader or "") if info.cluster else None
        finally:
            await client.close()

    async def streams(self) -> list[str]:
        """Names of all streams, those of buckets too."""
        client = await nats.connect(self.urls, connect_timeout=2, allow_reconnect=False)
        try:
            return sorted(each.config.name or "" for each in await client.jetstream().streams_info())
        finally:
            await client.close()


@contextmanager
def cluster(folder: Path, *, replicas: int = 3, with_edge: bool = False, **environ: str) -> Iterator[Cluster]:
    """All of it, serving; ended for certain."""
    with (
        unstarted(folder, replicas=replicas, **environ) as made,
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
def unstarted(folder: Path, *, replicas: int, **environ: str) -> Iterator[Cluster]:
    """What servers share, and servers that are yet to be started. Not from within a running event loop."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Nodes tell clients of each other, which would lead around a proxy.
        nodes = stack.enter_context(nats_cluster(folder / "nats", options="no_advertise: true"))
        asyncio.run(_elected([node.url for node in nodes.values()]))
        made = Cluster(folder, nodes, stack.enter_context(object_store(folder)))
        shared = {**_SETTINGS, **made.objects.environ, "UPSCALED_CLUSTER_URL": ",".join(made.urls), **environ}
        for number, port in enumerate(free_ports(replicas)):
            name = f"replica-{number}"
            replica = Replica(name, folder / name, f"127.0.0.1:{port}", shared)
            stack.callback(replica.kill)
            made.replicas.append(replica)
        yield made


async def _elected(urls: Sequence[str]) -> None:
    """Nodes that have just started have no leader yet, and make no streams."""
    client = await nats.connect(list(urls))
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    await client.jetstream().account_info()
                    return
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.1)
    finally:
        await client.close()
