"""A local folder of blobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings


@pytest.fixture
async def blobs(tmp_path: Path) -> BlobStore:
    return await BlobStore.open(StorageSettings(max_stored_bytes=10_000_000, min_free_bytes=0), tmp_path)
