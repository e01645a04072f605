"""Files under paths, in a local folder or an object store; whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from upscaled_server.errors import DomainError, FailedPrecondition, NotFound
from upscaled_server.storage import disk
from upscaled_server.storage.failures import text_of, translated
from upscaled_server.storage.partial import FIRST, Fence, LocalPartial, ObjectPartial, Partial
from upscaled_server.storage.room import Room
from upscaled_server.storage.settings import StorageSettings
from upscaled_server.storage.unbroken import unbroken

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
# S3 takes parts of at least 5 MiB, and at most 10,000 of them.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2
_RETRY_TIME = timedelta(seconds=30)
# An unfinished file of another server is not touched before this age.
_SHARED_SWEEP_SECONDS = 24 * 3600.0


class BlobStore:
    """Files by path. Paths are made by the server: ids and fixed names, separated by `/`.

    What was written survives power loss from the moment the call returns. Calls raise `StorageFull` where
    there is no room, and `Unavailable` where the storage does not answer.
    """

    def __init__(
        self,
        store: ObjectStore,
        room: Room,
        root: Path | None,
        *,
        is_shared: bool,
        is_new: bool,
        sweep_age_seconds: float = 0.0,
    ) -> None:
        """`root`: the folder of a `LocalStore`; `is_shared`: other servers may write there too; `is_new`:
        nothing is there yet; `sweep_age_seconds`: younger files that are not whole are left alone."""
        self.is_shared = is_shared
        self._store = store
        self._room = room
        self._root = root
        self._sweep_age_seconds = sweep_age_seconds
        self._is_ready = is_new
        self._getting_ready = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        # Top folders whose names are on the disk.
        self._synced: set[str] = set()

    @classmethod
    async def open(cls, settings: StorageSettings, data_dir: Path, *, has_peers: bool = False) -> BlobStore:
        """What `UPSCALED_BLOBS_URL` names. `has_peers`: other servers share its files, with the records of
        them; what was sent to an object store may arrive after its sender, so there it is always so.

        Raises `FailedPrecondition` if it cannot be used.
        """
        root = local_root(settings.blobs_url, data_dir)
        room = Room(settings.max_stored_bytes, settings.min_free_bytes, root)
        try:
            store = await asyncio.to_thread(make_store, settings.blobs_url, root)
            if root is None:
                await anext(aiter(obstore.list(store, chunk_size=1)), None)
        except (OSError, BaseError, ValueError) as error:
            raise FailedPrecondition(
                f"UPSCALED_BLOBS_URL: {settings.blobs_url or root} cannot be used: {text_of(error)}"
            ) from None
        blobs = cls(
            store,
            room,
            root,
            is_shared=has_peers or root is None,
            is_new=False,
            sweep_age_seconds=_SHARED_SWEEP_SECONDS if settings.blobs_url or has_peers else 0.0,
        )
        blobs._looking = asyncio.create_task(blobs._look(), name="count files")
        return blobs

    async def ready(self) -> None:
        """Return when unfinished files of a killed server are gone and all others counted, which may take
        seconds; changes wait for it. Raises `Unavailable`."""
        if self._is_ready:
            self._stay_up_to_date()
            return
        async with self._getting_ready:
            if not self._is_ready:
                with translated("files"), self._room.counting() as count:
                    count(await unbroken(self._sweep()))
                self._is_ready = True

    @property
    def used_bytes(self) -> int:
        """All files. What other servers of a shared place did lately is not in it: see `Room`."""
        return self._room.used_bytes

    @property
    def max_bytes(self) -> int:
        """Beyond which files are refused."""
        return self._room.max_bytes

    def check_room(self, count: int) -> None:
        """Raises `StorageFull` if `count` more bytes would be too many."""
        self._stay_up_to_date()
        self._room.check(count)

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        """Count bytes that are written inside, unless that fails. Raises `StorageFull`."""
        self._room.take(count)
        try:
            yield
        except BaseException:  # a cancellation too
            self._room.give_up(count)
            raise
        self._room.keep(count)

    async def put(self, path: str, data: bytes, *, is_new: bool = False) -> None:
        """Write a small file; another one at `path` is replaced at once. `is_new`: there is none."""
        await self.ready()
        before = None if is_new else await self.size(path)
        with self.taking(len(data)):
            with translated(path):
                await obstore.put_async(self._store, path, data, use_multipart=False)
            await self._sync(path)
        self._room.give_back(before or 0)

    @asynccontextmanager
    async def writer(
        self, path: str, *, content_type: str = "", disposition: str = "", is_new: bool = False
    ) -> AsyncIterator[BlobWriter]:
        """Write a file in pieces. It appears when the block ends; an exception leaves what was there.

        An object store gives `content_type` and `disposition` to whoever reads the file by its own URL.
        `is_new`: no file is there.
        """
        await self.ready()
        before = None if is_new else await self.size(path)
        attributes = {"Content-Type": content_type, "Content-Disposition": disposition}
        file = obstore.open_writer_async(
            self._store,
            path,
            # A folder keeps bytes only.
            attributes=None if self._root else {key: value for key, value in attributes.items() if value},
            buffer_size=PIECE_BYTES if self._root else _PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
        writer = BlobWriter(path, file, self._room)
        try:
            await file.__aenter__()
            try:
                yield writer
            except BaseException as error:  # a cancellation too
                await file.__aexit__(type(error), error, error.__traceback__)
                raise
            with translated(path):
                await file.close()
            await self._sync(path)
        except BaseException:  # a cancellation too
            self._room.give_up(writer.size)
            await unbroken(self._remove_if_empty(path))
            raise
        self._room.keep(writer.size)
        self._room.give_back(before or 0)

    async def read(self, path: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset` on, which is not beyond the end, in pieces of at most 1 MiB.

        Raises `NotFound`. A local file that is deleted meanwhile is read to its end.
        """
        size = await self.size(path)
        if size is None:
            raise NotFound("stored file", path)
        chunks = self._stream(path, offset) if self._root else self._ranges(path, offset, size)
        if offset < size:
            with translated(path):
                async for chunk in chunks:
                    for begin in range(0, len(chunk), PIECE_BYTES):
                        yield chunk[begin : begin + PIECE_BYTES]

    async def _stream(self, path: str, offset: int) -> AsyncIterator[bytes]:
        found = await obstore.get_async(self._store, path, options={"range": {"offset": offset}})
        async for chunk in found.stream(min_chunk_size=PIECE_BYTES):
            data = bytes(chunk)
            del chunk  # one copy is enough to wait for a slow reader
            yield data

    async def _ranges(self, path: str, offset: int, size: int) -> AsyncIterator[bytes]:
        """One short request after another: a reader may be slower than an object store waits."""
        for begin in range(offset, size, _PART_BYTES):
            end = min(begin + _PART_BYTES, size)
            yield bytes(await obstore.get_range_async(self._store, path, start=begin, end=end))

    async def size(self, path: str) -> int | None:
        """Bytes of a file; None if there is none."""
        with suppress(NotFound), translated(path):
            return int((await obstore.head_async(self._store, path))["size"])
        return None

    async def delete(self, path: str) -> None:
        """That there is none is fine."""
        await self.ready()
        size = await self.size(path)
        if size is None:
            return
        with suppress(NotFound), translated(path):
            await obstore.delete_async(self._store, path)
            self._room.give_back(size)
        if self._root is not None:
            await asyncio.to_thread(disk.sync_removed, self._root / path, self._root)

    async def delete_all(self, folder: str) -> None:
        """Every file below `folder`, and the folder."""
        await self.ready()
        sizes: dict[str, int] = {}
        with translated(folder):
            async for found in obstore.list(self._store, folder):
                sizes |= {each["path"]: each["size"] for each in found}
        with suppress(NotFound), translated(folder):
            if sizes:
                await obstore.delete_async(self._store, list(sizes))
            self._room.give_back(sum(sizes.values()))
            if self._root is not None:
                self._synced.discard(folder)
                await asyncio.to_thread(disk.remove_folder, self._root / folder)

    async def list(self, folder: str) -> AsyncIterator[str]:
        """Paths below `folder`, in no order. Files that are being written are not among them."""
        with translated(folder):
            async for found in obstore.list(self._store, folder):
                for each in found:
                    yield each["path"]

    def partial(self, name: str, fence: Fence = FIRST) -> Partial:
        """The file called `name` among those that are not whole yet. `fence` says whose bytes count where
        several servers may write it; where that cannot be it means nothing."""
        if self._root is not None and not self.is_shared:
            return LocalPartial(self, self._root, name)
        return ObjectPartial(self, name, fence)

    async def presign(self, path: str, seconds: float) -> str | None:
        """A URL of the object store that serves the file for a time; None where there is no such thing."""
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return await obstore.sign_async(self._store, "GET", path, timedelta(seconds=seconds))
        except (BaseError, ValueError) as error:
            # Credentials of some kinds can read and write, but not sign.
            log.warning("the object store cannot sign: %s", text_of(error))
            return None

    async def _look(self) -> None:
        """`ready`, before anybody asks; who asks hears what is wrong."""
        with suppress(DomainError):
            await self.ready()

    def _stay_up_to_date(self) -> None:
        """Begin to count again, beside what is done, if it is time."""
        is_looking = self._looking is not None and not self._looking.done()
        if self.is_shared and self._is_ready and self._room.is_out_of_date and not is_looking:
            self._looking = asyncio.create_task(self._look_again(), name="count files again")

    async def _look_again(self) -> None:
        """Count what all servers of a shared place keep."""
        try:
            with translated("files"), self._room.counting() as count:
                count(await self._sweep())
        except DomainError as error:
            log.warning("files cannot be counted now: %s", error.message)

    async def _remove_if_empty(self, path: str) -> None:
        """The folder that was made for a file which did not come to be."""
        if self._root is not None:
            await asyncio.to_thread(disk.remove_empty_parent, self._root / path, self._root)

    async def _sync(self, path: str) -> None:
        if self._root is None:
            return
        top, is_below, _ = path.partition("/")
        highest = self._root / top if is_below and top in self._synced else self._root
        with translated(path):
            await asyncio.to_thread(disk.sync_with_folders, self._root / path, highest)
        self._synced.add(top)

    async def _sweep(self) -> int:
        """Remove unfinished files; how many bytes are kept. Object stores keep theirs out of sight, and
        remove them by a rule of the bucket."""
        if self._root is not None:
            self._synced.clear()
            return await asyncio.to_thread(disk.sweep, self._root, self._sweep_age_seconds)
        kept = 0
        async for found in obstore.list(self._store):
            kept += sum(each["size"] for each in found)
        return kept


class BlobWriter:
    """Takes the bytes of one file in order."""

    def __init__(self, path: str, file: AsyncWritableFile, room: Room) -> None:
        self._path = path
        self._file = file
        self._room = room
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Raises `StorageFull`."""
        self._room.take(len(data))
        self.size += len(data)
        with translated(self._path):
            await self._file.write(data)


def local_root(url: str, data_dir: Path) -> Path | None:
    """The folder that `UPSCALED_BLOBS_URL` means; None for an object store."""
    if not url:
        return data_dir.absolute() / "blobs"
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def make_store(url: str, root: Path | None) -> Any:
    """What obstore has for it; a folder is made. Raises what obstore raises."""
    if root is None:
        return from_url(url, retry_config={"max_retries": 5, "retry_timeout": _RETRY_TIME})
    disk.make_folder(root)
    return LocalStore(root)
