"""What ends when, in the order of time."""

from __future__ import annotations

import pytest

from upscaled_server.state.expiry import PREFIX, Expiry, drop_expiry, note_expiry, read_expiry
from upscaled_server.state.store import Store
from upscaled_server.state.ulid import new_ulid


@pytest.mark.parametrize("caller", ["anna", "-", "a-job-in-out-x"])
@pytest.mark.parametrize("kind", ["job", "in", "out"])
def test_a_key_is_read_back(caller: str, kind: str) -> None:
    expiry = Expiry(1_790_000_000_123, kind, caller, new_ulid())
    assert read_expiry(expiry.key) == expiry


def test_another_key_is_none() -> None:
    with pytest.raises(ValueError, match="not an entry"):
        read_expiry(f"{PREFIX}/tomorrow")


async def test_the_earliest_comes_first(store: Store) -> None:
    times = [2_000_000_000_000, 999, 1_790_000_000_000]
    for each in times:
        await note_expiry(store, Expiry(each, "in", "anna", new_ulid()))
    found = [read_expiry(entry.key).milliseconds for entry in await store.range(PREFIX)]
    assert found == sorted(times)


async def test_noting_and_dropping_may_be_repeated(store: Store) -> None:
    expiry = Expiry(5, "out", "anna", new_ulid())
    await note_expiry(store, expiry)
    await note_expiry(store, expiry)
    await drop_expiry(store, expiry)
    await drop_expiry(store, expiry)
    assert await store.range(PREFIX) == []
