"""Rows through memory of their own."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.errors import ProcessingFailed
from upscaled_server.pool.pixels import Parcel, Shelf, unpack


def _send(shelf: Shelf, rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """As the transport does it: the receiver gets a descriptor of its own."""
    parcel = shelf.pack(rows)
    fd = None if parcel.fd is None else os.dup(parcel.fd)
    return unpack(parcel.described, fd, shelf.take_back)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:upscaled")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 100, 3), (600, 1000, 3)])
def test_rows_arrive_as_they_were_sent(dtype: type, shape: tuple[int, ...]) -> None:
    shelf = Shelf()
    rows = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)

    arrived = _send(shelf, rows)

    assert arrived.dtype == dtype
    np.testing.assert_array_equal(arrived, rows)
    shelf.close()


def test_rows_that_are_not_contiguous_arrive_as_they_look() -> None:
    shelf = Shelf()
    rows = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[::2, 1:4]

    np.testing.assert_array_equal(_send(shelf, rows), rows)
    shelf.close()


def test_no_rows_need_no_memory() -> None:
    shelf = Shelf()
    files = _open_files()

    arrived = _send(shelf, np.empty((0, 64, 3), np.uint16))

    assert arrived.shape == (0, 64, 3)
    assert arrived.dtype == np.uint16
    assert _open_files() == files


def test_a_buffer_is_used_again_only_when_every_view_of_it_is_gone() -> None:
    shelf = Shelf()
    arrived = _send(shelf, np.full((10, 10, 3), 1, np.uint8))
    view = arrived[2:5]
    del arrived
    assert shelf.away == 1

    other = _send(shelf, np.full((10, 10, 3), 2, np.uint8))
    assert view.min() == view.max() == 1  # not overwritten

    mapped = _mappings()
    del view, other
    gc.collect()
    assert shelf.away == 0
    again = _send(shelf, np.full((10, 10, 3), 3, np.uint8))
    assert _mappings() <= mapped
    assert again.max() == 3
    shelf.close()


def test_rows_outlive_the_sender() -> None:
    shelf = Shelf()
    arrived = _send(shelf, np.full((500, 500, 3), 7, np.uint8))

    shelf.close()

    assert arrived.min() == arrived.max() == 7


def test_nothing_is_left_open_or_mapped() -> None:
    files, mapped = _open_files(), _mappings()
    shelf = Shelf()
    held = [_send(shelf, np.zeros((300, 1000, 3), np.uint8)) for _ in range(20)]
    del held
    gc.collect()
    shelf.close()

    assert _open_files() == files
    assert _mappings() == mapped


def test_free_buffers_are_kept_up_to_a_bound() -> None:
    shelf = Shelf(keep_bytes=4 << 20)
    files = _open_files()
    held = [_send(shelf, np.zeros((2 << 20,), np.uint8)) for _ in range(10)]
    del held
    gc.collect()

    # A buffer has a descriptor of its own and one that its mapping holds.
    assert _open_files() - files <= 2 * 2
    shelf.close()


def test_the_receiver_cannot_change_what_it_was_sent() -> None:
    shelf = Shelf()
    arrived = _send(shelf, np.zeros((2, 2, 3), np.uint8))

    with pytest.raises(ValueError, match="read-only"):
        arrived[0] = 1
    shelf.close()


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**6, 10**6, 3]},
        {"shape": [-1, -1, 3]},
        {"dtype": "object"},
        {"shape": "x"},
        {"buffer": None},
    ],
)
def test_a_parcel_that_does_not_add_up_is_refused_and_closed(change: dict[str, object]) -> None:
    shelf = Shelf()
    parcel: Parcel = shelf.pack(np.zeros((10, 10, 3), np.uint8))
    files = _open_files()
    assert parcel.fd is not None

    with pytest.raises(ProcessingFailed):
        unpack({**parcel.described, **change}, os.dup(parcel.fd), shelf.take_back)

    assert _open_files() == files
    shelf.close()
