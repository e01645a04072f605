"""What a run keeps of its input."""

from __future__ import annotations

import numpy as np

from upscaled_server.pool import replay
from upscaled_server.pool.replay import Kept
from upscaled_server.tiling.plan import RunPlan

_PLAN = RunPlan("tiles", 8, 64, 4, 8, 16, 4, 1, 1, 1, 1000)


def test_rows_that_own_their_memory_are_kept_without_a_copy_and_views_are_copied() -> None:
    kept = Kept(_PLAN)
    own, lent = np.full((4, 8, 3), 1, np.uint8), np.full((9, 8, 3), 2, np.uint8)
    kept.append(own)
    kept.append(lent[2:6])
    lent[...] = 0  # as memory that a worker uses again
    assert kept.rows[0] is own
    assert (kept.rows[1] == 2).all()
    assert kept.nbytes == 2 * own.nbytes
    assert kept.fed == 8


def test_nothing_is_kept_once_it_is_dropped() -> None:
    kept = Kept(_PLAN)
    kept.append(np.zeros((4, 8, 3), np.uint8))
    kept.drop()
    kept.append(np.zeros((4, 8, 3), np.uint8))
    kept.deliver(16)
    assert (kept.nbytes, kept.rows, kept.enough, kept.fed) == (0, (), False, 8)


def test_a_run_that_would_have_to_keep_too_much_keeps_nothing() -> None:
    plan = RunPlan("whole", 4000, 8000, 4, 4000, 8000, 4, 1, 1, 1, 1000)
    kept = Kept(plan)
    rows = np.broadcast_to(np.zeros((1, 4000, 3), np.uint8), (replay.MAX_KEPT_BYTES // 12_000, 4000, 3))
    kept.append(rows)
    assert kept.enough
    kept.append(rows[:4])
    assert (kept.nbytes, kept.enough) == (0, False)
