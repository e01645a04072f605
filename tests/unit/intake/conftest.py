from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stored_tools import Kept, Pair, Place, keeping
from tests.both_stores import OpenStore, nats_opener, sqlite_opener
from tests.nats_servers import NatsServer


@pytest.fixture(
    params=["sqlite and a folder", "nats and a folder", "nats and a shared folder", "nats and s3"]
)
def where(request: pytest.FixtureRequest) -> str:
    """Where records are, and bytes: of a server by itself, and of one among others."""
    return str(request.param)


@pytest.fixture
def open_store(request: pytest.FixtureRequest, where: str, tmp_path: Path) -> OpenStore:
    if where.startswith("sqlite"):
        return sqlite_opener(tmp_path / "state.db")
    return nats_opener(request.getfixturevalue("nats_server"))


@pytest.fixture
def place(request: pytest.FixtureRequest, where: str, tmp_path: Path) -> Place:
    return place_of(request, where, tmp_path)


def place_of(request: pytest.FixtureRequest, where: str, tmp_path: Path) -> Place:
    if where.endswith("s3"):
        return Place(f"s3://{request.getfixturevalue('s3_bucket')}/files", has_peers=True)
    if where.endswith("shared folder"):
        return Place((tmp_path / "shared").as_uri(), has_peers=True)
    return Place()


@pytest.fixture
async def kept(tmp_path: Path, open_store: OpenStore, place: Place) -> AsyncIterator[Kept]:
    async with keeping(tmp_path, open_store=open_store, place=place) as parts:
        yield parts


@pytest.fixture(params=["shared folder", "s3"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer
) -> AsyncIterator[Pair]:
    open_store = nats_opener(nats_server)
    place = place_of(request, request.param, tmp_path)
    async with (
        keeping(tmp_path / "one", open_store=open_store, place=place) as one,
        keeping(tmp_path / "other", open_store=open_store, place=place) as other,
    ):
        yield Pair(one, other)
