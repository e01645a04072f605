"""How large an image may be so that its run can be begun again: as docs/exactness.md has it."""

from __future__ import annotations

import math
import runpy

import numpy as np
import pytest
from tests.conftest import REPO

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.planning import plan_image
from upscaled_server.pool.replay import MAX_KEPT_BYTES, Kept, ahead_rows
from upscaled_server.tiling.plan import RunPlan

PAGE = runpy.run_path(str(REPO / "scripts" / "render_exactness.py"))
BUDGET = 8 << 30
PLUS, ANIME, GENERAL = "real-esrgan-x4-plus", "real-esrgan-x4-plus-anime", "real-esrgan-x4-v3"


def _plan(model: str, width: int, height: int) -> RunPlan:
    device = choose_device("cpu", "ncnn", parallel=2, budget_bytes=BUDGET)
    spec = Catalogue().resolve(model)
    return plan_image(spec, device, width, height, budget_bytes=BUDGET, parallel=2)


def _can_always_be_begun_again(plan: RunPlan, bits: int) -> bool:
    """Step by step, with as many rows as may be there beyond those that a step reads."""
    kept, row = Kept(plan), np.zeros((1, plan.width, 3), np.uint8 if bits == 8 else np.uint16)
    for step in range(1, plan.steps + 1):
        there = min(plan.height, plan.rows_for_step(step) + ahead_rows(plan))
        kept.append(np.broadcast_to(row, (there - kept.fed, plan.width, 3)))
        if not kept.enough:
            return False
        finished = math.floor(plan.bands_after(step)) * plan.tile_height - plan.halo
        kept.deliver(max(0, min(plan.height, finished) * plan.scale - kept.delivered))
    return True


@pytest.mark.parametrize(("model", "bits"), [(PLUS, 8), (PLUS, 16), (ANIME, 16), (GENERAL, 16)])
def test_from_about_the_width_on_the_page_a_large_image_ends_with_its_worker(model: str, bits: int) -> None:
    width = PAGE["too_large"](Catalogue().resolve(model), bits // 8)
    for share, expected in ((0.96, True), (1.14, False)):
        side = round(width * share)
        assert _can_always_be_begun_again(_plan(model, side, 50_000_000 // side), bits) == expected


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_that_is_kept_as_a_whole_can_always_be_begun_again(bits: int) -> None:
    width = 6_000
    plan = _plan(PLUS, width, MAX_KEPT_BYTES // (3 * bits // 8 * width))
    assert _can_always_be_begun_again(plan, bits)
