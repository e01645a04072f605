"""Mean colours: `keep_colors` keeps them, and without it nothing but the network moves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.benchmarks.colours import MODEL, BareNetwork, largest, measured, seen, shift
from tests.conftest import REPO
from tests.e2e.conftest import running_server

from upscaled import Client

IMAGES = (
    "00003.png", "00017_gray.png", "0014.jpg", "0030.jpg", "ADE_val_00000114.jpg", "OST_009.png",
    "children-alpha.png", "tree_alpha_16bit.png", "wolf_gray.jpg",
)  # fmt: skip
LIMIT = 0.5
LUMA = np.array([0.299, 0.587, 0.114])

Shifts = dict[str, list[float]]


@pytest.fixture(scope="module")
def shifts(
    shared_images: Path, shared_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Shifts]]:
    network = BareNetwork(shared_models, tmp_path_factory.mktemp("weights"))
    with (
        running_server(UPSCALED_MODEL_DIR=str(shared_models)) as server,
        Client(server.address, timeout=300) as client,
    ):
        yield {name: measured((shared_images / name).read_bytes(), client, network) for name in IMAGES}


def test_every_image_there_is_is_tried(shared_images: Path) -> None:
    assert {path.name for path in shared_images.iterdir()} == set(IMAGES)


@pytest.mark.parametrize("name", IMAGES)
def test_kept_colours_shift_by_less_than_half_a_step(shifts: dict[str, Shifts], name: str) -> None:
    assert largest(shifts[name]["keep_colors"]) < LIMIT


@pytest.mark.parametrize("name", IMAGES)
def test_all_that_is_not_the_network_adds_less_than_half_a_step(shifts: dict[str, Shifts], name: str) -> None:
    """Decoding, profiles, alpha, rounding, encoding. Grey is the network's luma. Beside transparent pixels
    the bare network mixes in the colour that lies under them, so there the server may only be better."""
    answer, network = (np.array(shifts[name][each]) for each in ("answer", "network"))
    if "alpha" in name:
        assert np.abs(answer).max() < np.abs(network).max() + LIMIT
        return
    expected = np.repeat(network @ LUMA, 3) if "gray" in name else network
    assert np.abs(answer - expected).max() < LIMIT


def test_a_shift_is_the_difference_of_means_over_visible_pixels() -> None:
    before = np.full((4, 6, 4), 100.0)
    before[..., 3] = 255
    before[0, :, 3] = 0
    after = before.repeat(4, 0).repeat(4, 1)
    after[..., :3] += [1, -2, 0.25]
    after[:4, :, :3] = 255
    assert shift(before, after) == pytest.approx([1, -2, 0.25])
    assert largest([1, -2, 0.25]) == 2


def test_the_published_figures_keep_the_promise() -> None:
    found = json.loads((REPO / "docs" / "benchmarks" / "colours.json").read_text())
    assert found["model"] == MODEL
    assert set(found["shifts"]) == set(IMAGES)
    assert all(largest(each["keep_colors"]) < LIMIT for each in found["shifts"].values())


def test_a_file_is_seen_as_a_viewer_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((2, 3), 0x8001, np.uint16)).save(path)
    assert (seen(path.read_bytes()) == [128, 128, 128, 255]).all()
