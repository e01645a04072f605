"""What a device has done, added up over the lifetimes of its workers."""

from __future__ import annotations

from upscaled_server.pool.stats import DeviceCounts


def heartbeat(cpu_seconds: float, resident_bytes: int = 100) -> dict[str, float]:
    return {"cpu_seconds": cpu_seconds, "resident_bytes": resident_bytes, "memory_bytes": 2 * resident_bytes}


def test_processor_time_goes_on_from_where_the_last_worker_was() -> None:
    counts, told = DeviceCounts(), []
    for seconds in (1.0, 4.0):
        counts.take(heartbeat(seconds))
        told.append(counts.cpu_seconds)
    counts.lost_worker()
    told.append(counts.cpu_seconds)
    for seconds in (0.5, 2.0):
        counts.take(heartbeat(seconds))
        told.append(counts.cpu_seconds)
    assert told == [1.0, 4.0, 4.0, 4.5, 6.0]


def test_memory_is_that_of_the_worker_that_is_there() -> None:
    counts = DeviceCounts()
    counts.take(heartbeat(1.0, 300))
    assert (counts.resident_bytes, counts.memory_bytes) == (300, 600)
    counts.lost_worker()
    assert (counts.resident_bytes, counts.memory_bytes) == (0, 0)


def test_steps_and_what_goes_wrong_in_them_add_up() -> None:
    counts = DeviceCounts()
    counts.take({"seconds": 0.5, "pixels": 100.0, "images": 1})
    counts.take({"seconds": 0.25, "pixels": 50.0, "images": 0, "out_of_memory": 2})
    counts.take({"nan_fallbacks": 1})
    assert (counts.busy_seconds, counts.pixels) == (0.75, 150.0)
    assert (counts.out_of_memory, counts.nan_fallbacks) == (2, 1)
