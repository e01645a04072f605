"""An answer says how its image was cut: the plan that was run, from which the same bytes come again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.e2e.conftest import running_server
from tests.integration.engine.truth import driven
from upscaled import Client
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.tiling.plan import RunPlan

MODEL = "real-esrgan-animevideo-v3"
BAND_ROWS = 24


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        running_server(UPSCALED_BAND_ROWS=str(BAND_ROWS)) as server,
        Client(server.address, timeout=120) as client,
    ):
        yield client


def _run_again(plan: RunPlan, image: NDArray[np.uint8], cache: Path) -> NDArray[np.uint8]:
    engine = Engine(
        choose_device("cpu", "ncnn", parallel=plan.parallel * plan.threads),
        WeightStore(StoreOptions(cache=cache, download=False)),
    )
    engine.load(MODEL)
    rows: NDArray[np.uint8] = driven(engine.open_run(MODEL, plan, 8), image)
    engine.close()
    return rows


@pytest.mark.parametrize(
    ("box", "way", "tile"),
    [((60, 40, 124, 88), "whole", (64, 48)), ((0, 0, 320, 240), "bands", (320, BAND_ROWS))],
)
def test_the_answer_holds_the_plan_that_was_run(
    client: Client,
    sample: Path,
    tmp_path: Path,
    box: tuple[int, int, int, int],
    way: str,
    tile: tuple[int, int],
) -> None:
    picture = Image.open(sample).convert("RGB").crop(box)
    file = io.BytesIO()
    picture.save(file, "PNG")
    result = client.upscale(file.getvalue(), model=MODEL)
    (recorded,) = json.loads(result.provenance.execution)
    plan = RunPlan.from_dict(recorded)
    assert (plan.way, plan.width, plan.height, plan.scale) == (way, *picture.size, 4)
    assert (plan.tile_width, plan.tile_height) == tile
    ours = np.asarray(Image.open(io.BytesIO(result.data)))
    np.testing.assert_array_equal(ours, _run_again(plan, np.asarray(picture), tmp_path))


def test_of_two_passes_each_has_its_plan(client: Client, sample: Path) -> None:
    file = io.BytesIO()
    Image.open(sample).convert("RGB").crop((0, 0, 40, 30)).save(file, "PNG")
    result = client.upscale(file.getvalue(), model=MODEL, scale=16, passes=2)
    plans = [RunPlan.from_dict(each) for each in json.loads(result.provenance.execution)]
    assert [(plan.width, plan.height) for plan in plans] == [(40, 30), (160, 120)]
