"""Places of blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import MemoryStore

from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.room import Room
from upscaled_server.storage.settings import StorageSettings

MAX_BYTES = 10_000_000


@pytest.fixture
async def blobs(tmp_path: Path) -> BlobStore:
    """A local folder."""
    return await BlobStore.open(StorageSettings(max_stored_bytes=MAX_BYTES, min_free_bytes=0), tmp_path)


@pytest.fixture(params=["folder", "shared folder", "memory", "s3"])
async def any_blobs(request: pytest.FixtureRequest, blobs: BlobStore, tmp_path: Path) -> BlobStore:
    """A folder of one server or of several, and object stores."""
    if request.param == "folder":
        return blobs
    if request.param == "memory":
        return BlobStore(MemoryStore(), Room(MAX_BYTES, 0, None), None, is_shared=True, is_new=True)
    url = (tmp_path / "shared").as_uri()
    if request.param == "s3":
        url = f"s3://{request.getfixturevalue('s3_bucket')}/files"
    settings = StorageSettings(blobs_url=url, max_stored_bytes=MAX_BYTES, min_free_bytes=0)
    return await BlobStore.open(settings, tmp_path, has_peers=True)
