"""Rows through memory of their own."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

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


def test_rows_that_were_written_into_the_shelf_are_sent_without_a_copy() -> None:
    shelf = Shelf()
    block = shelf.empty((20, 8, 3), np.uint16)
    block[...] = np.arange(20, dtype=np.uint16)[:, None, None]

    first, second = _send(shelf, block[:5]), _send(shelf, block[5:12])

    np.testing.assert_array_equal(first, block[:5])
    np.testing.assert_array_equal(second, block[5:12])
    block[6] = 99
    assert second[1].min() == 99
    assert _mappings() == 1 + 2
    shelf.close()


def test_a_part_of_a_row_is_copied() -> None:
    shelf = Shelf()
    block = shelf.empty((4, 8, 3), np.uint8)
    block[...] = np.arange(8, dtype=np.uint8)[None, :, None]

    arrived = _send(shelf, block[:, 2:5])

    block[...] = 0
    np.testing.assert_array_equal(arrived[0, :, 0], [2, 3, 4])
    shelf.close()


def _is_used_again(shelf: Shelf, files: int) -> bool:
    """Whether the only buffer is free: another array needs no other one."""
    array = shelf.empty((1000,), np.uint8)
    return _open_files() == files and array.nbytes > 0


def test_a_buffer_is_used_again_when_both_sides_are_done_with_it() -> None:
    shelf = Shelf()
    block = shelf.empty((10, 10, 3), np.uint8)
    files = _open_files()
    rows = block[2:4]
    first, second = _send(shelf, rows), _send(shelf, block[4:])
    mapped_files = _open_files() - files
    del block, first, second
    assert shelf.away == 0
    assert not _is_used_again(shelf, files)  # `rows` is here
    del rows
    files = _open_files()
    assert _is_used_again(shelf, files)
    assert mapped_files == 2
    shelf.close()


def test_a_buffer_is_not_used_again_while_one_of_two_receivers_reads_it() -> None:
    shelf = Shelf()
    block = shelf.empty((10, 10, 3), np.uint8)
    block[...] = 7
    first, second = _send(shelf, block[:5]), _send(shelf, block[5:])
    del block, first
    gc.collect()
    for _ in range(3):
        shelf.empty((10, 10, 3), np.uint8)[...] = 1
    assert second.min() == second.max() == 7
    shelf.close()


def test_an_array_that_is_never_sent_gives_its_buffer_back() -> None:
    shelf = Shelf()
    shelf.empty((1 << 20,), np.uint8)
    files = _open_files()
    for _ in range(100):
        shelf.empty((1 << 20,), np.uint8)
    assert _open_files() == files
    shelf.close()


def test_what_arrays_that_were_never_sent_leave_is_freed_without_another_array() -> None:
    shelf = Shelf(keep_bytes=1 << 20)
    files = _open_files()
    arrays = [shelf.empty((4 << 20,), np.uint8) for _ in range(3)]
    del arrays
    assert _open_files() > files
    shelf.trim()
    assert _open_files() == files
    shelf.close()


def test_a_buffer_that_no_array_came_of_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.empty((100,), np.uint8)
    files = _open_files()
    with monkeypatch.context() as patch:
        patch.setattr("upscaled_server.pool.pixels.weakref.finalize", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            shelf.empty((100,), np.uint8)
    assert _is_used_again(shelf, files)
    shelf.close()


def test_a_buffer_that_is_taken_while_the_shelf_closes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, files, finalize = Shelf(), _open_files(), weakref.finalize

    def closing(*arguments: object) -> object:
        shelf.close()
        return finalize(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("upscaled_server.pool.pixels.weakref.finalize", closing)
        block = shelf.empty((100,), np.uint8)
    with pytest.raises(ProcessingFailed):
        shelf.pack(block)
    del block
    assert _open_files() == files


def test_rows_from_elsewhere_are_never_taken_for_the_shelfs() -> None:
    """Even where an array of the shelf's has stood in the same place."""
    shelf = Shelf()
    for number in range(2000):
        shelf.empty((4, 4, 3), np.uint8)
        elsewhere = np.full((4 * 4 * 3,), number % 251, np.uint8).reshape(4, 4, 3)
        assert not shelf.holds(elsewhere)
        assert _send(shelf, elsewhere).max() == number % 251
    shelf.close()


def test_many_threads_write_and_send_and_no_rows_change() -> None:
    shelf = Shelf()

    def send(number: int) -> bool:
        good = True
        for turn in range(100):
            block = shelf.empty((50, 40, 3), np.uint8)
            value = (number * 100 + turn) % 251
            block[...] = value
            arrived = [_send(shelf, block[:20]), _send(shelf, block[20:])]
            del block
            good &= all(rows.min() == rows.max() == value for rows in arrived)
        return good

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(send, range(8)))
    shelf.close()


def test_a_shelf_that_is_closed_gives_nothing_out_and_harms_no_array() -> None:
    files = _open_files()
    shelf = Shelf()
    block = shelf.empty((10, 10, 3), np.uint8)
    arrived = _send(shelf, block)
    shelf.close()
    shelf.close()

    with pytest.raises(ProcessingFailed):
        shelf.empty((1, 1, 3), np.uint8)
    with pytest.raises(ProcessingFailed):
        shelf.pack(block)
    block[...] = 3
    assert arrived.max() == 3
    del block, arrived
    gc.collect()
    assert _open_files() == files


def test_where_no_memory_is_left_that_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    shelf, files = Shelf(), _open_files()
    monkeypatch.setattr("upscaled_server.pool.pixels.mmap.mmap", full)
    with pytest.raises(MemoryError):
        shelf.empty((10, 10, 3), np.uint8)
    assert _open_files() == files


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
        {"offset": -1},
        {"offset": 1 << 20},
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
