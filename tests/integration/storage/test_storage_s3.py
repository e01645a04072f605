"""Files in S3: sent in parts while they are made, there when they are whole, read in ranges, and by URL."""

from __future__ import annotations

import asyncio
import random
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from tests.s3_server import S3Server

from upscaled_server.errors import FailedPrecondition
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings

DATA = random.Random(3).randbytes(21_000_000)
PART = 8 << 20
DISPOSITION = 'attachment; filename="a.png"'


@pytest.fixture
async def blobs(s3_bucket: str, tmp_path: Path) -> BlobStore:
    return await BlobStore.open(StorageSettings(blobs_url=f"s3://{s3_bucket}/some/prefix"), tmp_path)


async def _write(blobs: BlobStore, path: str) -> None:
    async with blobs.writer(
        path, content_type="image/png", disposition='attachment; filename="a.png"'
    ) as file:
        for begin in range(0, len(DATA), 700_000):
            await file.write(DATA[begin : begin + 700_000])


async def _names(blobs: BlobStore) -> list[str]:
    return [path async for path in blobs.list("outputs")]


async def test_a_file_is_sent_while_it_is_made_and_appears_when_it_is_whole(
    blobs: BlobStore, s3: S3Server, s3_bucket: str
) -> None:
    async with blobs.writer("outputs/A/1") as file:
        await file.write(DATA)
        assert s3.unfinished(s3_bucket) == ["some/prefix/outputs/A/1"]
        assert (await blobs.size("outputs/A/1"), await _names(blobs)) == (None, [])
    assert await blobs.size("outputs/A/1") == len(DATA)
    assert s3.unfinished(s3_bucket) == []


async def test_a_file_that_is_broken_off_leaves_nothing_and_what_was_there(
    blobs: BlobStore, s3: S3Server, s3_bucket: str
) -> None:
    await blobs.put("outputs/A", b"before")
    with pytest.raises(ValueError, match="broken off"):
        async with blobs.writer("outputs/A") as file:
            await file.write(DATA)
            raise ValueError("broken off")
    assert await blobs.size("outputs/A") == blobs.used_bytes == 6
    assert s3.unfinished(s3_bucket) == []


@pytest.mark.parametrize("offset", [0, 1, PART - 1, PART, PART + 1, len(DATA) - 1, len(DATA)])
async def test_a_file_is_read_from_any_byte_on(blobs: BlobStore, offset: int) -> None:
    await _write(blobs, "outputs/A/1")
    assert b"".join([piece async for piece in blobs.read("outputs/A/1", offset)]) == DATA[offset:]


async def test_a_signed_url_serves_the_file_with_its_name_and_type(blobs: BlobStore) -> None:
    await _write(blobs, "outputs/A/1")
    url = await blobs.presign("outputs/A/1", 60)
    assert url is not None
    assert "X-Amz-Expires=60" in url
    status, headers, data = await asyncio.to_thread(_get, url)
    assert (status, data) == (200, DATA)
    assert (headers["content-type"], headers["content-disposition"]) == ("image/png", DISPOSITION)
    status, _, data = await asyncio.to_thread(_get, url, {"Range": "bytes=1000-1999"})
    assert (status, data) == (206, DATA[1000:2000])


def _get(url: str, headers: dict[str, str] | None = None) -> tuple[int, Message, bytes]:
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.headers, answer.read()


async def test_a_bucket_that_is_not_there_is_named_at_the_start(s3_bucket: str, tmp_path: Path) -> None:
    assert s3_bucket
    with pytest.raises(FailedPrecondition, match="UPSCALED_BLOBS_URL: s3://there-is-none"):
        await BlobStore.open(StorageSettings(blobs_url="s3://there-is-none/x"), tmp_path)


async def test_a_prefix_has_nothing_of_another(blobs: BlobStore, s3_bucket: str, tmp_path: Path) -> None:
    await blobs.put("outputs/A", b"of one")
    other = await BlobStore.open(StorageSettings(blobs_url=f"s3://{s3_bucket}/some/pref"), tmp_path)
    await other.ready()
    assert (other.used_bytes, await _names(other)) == (0, [])
