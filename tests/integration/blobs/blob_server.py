"""The service of files on a port of its own, in this process or in another; by itself, or one of several over
the state and the files of `UPSCALED_CLUSTER_URL` and `UPSCALED_BLOBS_URL`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from tests.both_stores import OpenStore, nats_store_opener, sqlite_opener

from upscaled.v1 import blobs_pb2_grpc
from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.directory import Directory
from upscaled_server.access.settings import AccessSettings
from upscaled_server.api.access_interceptor import AccessInterceptor
from upscaled_server.api.blobs import BlobsServicer
from upscaled_server.api.channel import channel_options
from upscaled_server.api.errors_interceptor import ErrorInterceptor
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.secrets import Secrets, SecretSettings
from upscaled_server.intake.signing import UrlSigner
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.stored_records import StoredOutput
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.store import Store
from upscaled_server.state.ulid import new_ulid
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings

CALLERS = (Caller("anna"), Caller("ben"), Caller("small", max_stored_bytes=2_000_000))


@dataclass(frozen=True, slots=True)
class BlobServer:
    """`keys` by the names of callers; empty where nobody needs one."""

    address: str
    files: StoredFiles
    blobs: BlobStore
    store: Store
    signer: UrlSigner
    memory: UploadMemory
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, caller: str) -> list[tuple[str, str]]:
        """Metadata of a call by `caller`."""
        return [("authorization", f"Bearer {self.keys[caller]}")]

    async def output(
        self, data: bytes, *, caller: str = "anna", seconds: float = 1000, name: str = "größe.png"
    ) -> StoredOutput:
        """A new output of `caller`, kept for `seconds`."""
        async with self.files.new_output(
            Caller(caller),
            output_id=new_ulid(),
            file_name=name,
            content_type="image/png",
            width=3,
            height=4,
            expires_at=time.time() + seconds,
        ) as writer:
            await writer.write(data)
        assert writer.record is not None
        return writer.record


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    with_keys: bool = True,
    limits: LimitSettings | None = None,
    storage: StorageSettings | None = None,
    open_store: OpenStore | None = None,
    peer: BlobServer | None = None,
) -> AsyncIterator[BlobServer]:
    """In SQLite and a folder of its own, unless `open_store` and `storage` give places that servers share;
    `peer`: one that is there already, whose keys are good here too."""
    limits = limits or LimitSettings()
    folder.mkdir(exist_ok=True)
    stack = AsyncExitStack()
    store = await stack.enter_async_context((open_store or sqlite_opener(folder / "state.db"))())
    directory = Directory(store)
    await directory.load()
    keys = {} if peer is None else peer.keys
    if with_keys and peer is None:
        for each in CALLERS:
            await directory.create_caller(each)
            keys[each.name] = (await directory.create_key(each.name))[1]
    blobs = await BlobStore.open(
        storage or StorageSettings(min_free_bytes=0), folder, has_peers=open_store is not None
    )
    await blobs.ready()
    memory = UploadMemory(limits.max_uploading_bytes) if peer is None else peer.memory
    files = StoredFiles(
        store,
        blobs,
        KeepingSettings(),
        max_input_bytes=limits.max_input_bytes,
        upload_idle_seconds=limits.upload_idle_seconds,
        memory=memory,
    )
    signer = UrlSigner((await Secrets.load(SecretSettings(), store)).keys, "https://images.example.com")
    access = Access(directory, AccessSettings(wrong_keys_per_second=1e6))
    server = grpc.aio.server(
        interceptors=[ErrorInterceptor(), AccessInterceptor(access, max_message_seconds=10)],
        options=channel_options(limits.max_message_bytes),
    )
    blobs_pb2_grpc.add_BlobsServicer_to_server(BlobsServicer(files, signer, limits), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield BlobServer(f"127.0.0.1:{port}", files, blobs, store, signer, memory, folder, keys)
    finally:
        await server.stop(0)
        await stack.aclose()


async def _until_killed(doing: str, folder: Path) -> None:
    """Serve, or write an output; say the address, or the output's id, when it can be met in the middle."""
    cluster = ClusterSettings()
    open_store = nats_store_opener(cluster) if cluster.cluster_url else None
    async with serving(folder, with_keys=False, open_store=open_store) as server:
        if doing == "serve":
            print(server.address, flush=True)
            await asyncio.Event().wait()
        output_id = new_ulid()
        async with server.files.new_output(
            CALLERS[0],
            output_id=output_id,
            file_name="a.png",
            content_type="image/png",
            width=1,
            height=1,
            expires_at=time.time() + 1000,
        ) as writer:
            await writer.write(bytes(20_000_000))
            print(output_id, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_until_killed(sys.argv[1], Path(sys.argv[2])))
