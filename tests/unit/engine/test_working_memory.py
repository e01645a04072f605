"""What steps leave in memory is released where it would be too much, and only there."""

from __future__ import annotations

import pytest

from upscaled_server.engine.variant import Variant
from upscaled_server.engine.working_memory import WorkingMemory
from upscaled_server.tiling.plan import RunPlan

VARIANT = Variant("real-esrgan-x4-plus")
MEBI = 1 << 20


def _plan(width: int, working_mebi: int, carried_mebi: int = 0) -> RunPlan:
    plan = RunPlan(
        way="bands",
        width=width,
        height=1024,
        scale=1,
        tile_width=width,
        tile_height=1,
        halo=0,
        multiple=1,
        parallel=1,
        threads=1,
        bytes_per_input_pixel=working_mebi * MEBI // width,
        carried_bytes_per_column=carried_mebi * MEBI // width,
    )
    assert plan.working_bytes == working_mebi * MEBI
    return plan


class _Counted:
    def __init__(self, budget_mebi: int) -> None:
        self.released = 0
        self.memory = WorkingMemory(budget_mebi * MEBI, self._release)

    def _release(self) -> None:
        self.released += 1

    def image(self, plan: RunPlan) -> None:
        self.memory.run_opens(plan)
        self.memory.step_begins(VARIANT, plan)
        self.memory.step_begins(VARIANT, plan)
        self.memory.run_closes(plan)


def test_images_of_one_size_leave_their_memory_to_the_next() -> None:
    counted = _Counted(1024)
    for _ in range(10):
        counted.image(_plan(64, 100))
    assert counted.released == 0


def test_what_is_left_when_the_last_image_ends_is_an_eighth_of_the_budget_at_most() -> None:
    counted = _Counted(1024)
    counted.image(_plan(64, 128))
    assert counted.released == 0
    counted.image(_plan(128, 129))
    assert counted.released == 1
    counted.image(_plan(64, 128))
    assert counted.released == 1, "counted from nothing again"


def test_two_images_that_take_turns_keep_what_they_need() -> None:
    counted, plans = _Counted(1024), [_plan(64, 200), _plan(128, 256)]
    for plan in plans:
        counted.memory.run_opens(plan)
    for _ in range(10):
        for plan in plans:
            counted.memory.step_begins(VARIANT, plan)
    assert counted.released == 0


def test_more_than_two_large_ones_are_not_kept() -> None:
    counted = _Counted(1024)
    for width, working in ((64, 200), (128, 210), (256, 220), (512, 230)):
        plan = _plan(width, working)
        counted.memory.run_opens(plan)
        counted.memory.step_begins(VARIANT, plan)
    assert counted.released == 1


@pytest.mark.parametrize(("budget", "released"), [(1024, 0), (700, 9)])
def test_the_open_images_state_counts_against_the_budget(budget: int, released: int) -> None:
    counted, plans = _Counted(budget), [_plan(64, 256, 128), _plan(128, 256, 128)]
    for plan in plans:
        counted.memory.run_opens(plan)
    for _ in range(5):
        for plan in plans:
            counted.memory.step_begins(VARIANT, plan)
    assert counted.released == released


def test_an_image_alone_may_have_all_of_the_budget() -> None:
    counted, plan = _Counted(300), _plan(64, 299)
    counted.memory.run_opens(plan)
    for _ in range(5):
        counted.memory.step_begins(VARIANT, plan)
    assert counted.released == 0
    counted.memory.run_closes(plan)
    assert counted.released == 1
