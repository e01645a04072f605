"""The JSON behind the measured parts of docs/media.md keeps the promises."""

from __future__ import annotations

import json
import runpy

import pytest
from tests.benchmarks.first_byte import MOST_GROWTH, MOST_SHARE
from tests.benchmarks.png import MOST_SIZE, MOST_TIME
from tests.conftest import REPO

RENDER = runpy.run_path(str(REPO / "scripts" / "render_media.py"))
MEASURED = REPO / "docs" / "benchmarks"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks for colours"):
        RENDER["rendered"]("nothing to see")


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_the_published_first_byte_and_memory_are_within_their_bounds(name: str) -> None:
    found = json.loads((MEASURED / f"first_byte-{name}.json").read_text())
    low, high = found["runs"]
    assert low["input"][0] * low["input"][1] == 4_000_000
    assert high["input"] == [low["input"][0], 2 * low["input"][1]]
    assert low["first_byte_share"] <= MOST_SHARE
    assert abs(high["server_bytes"]["peak"] / low["server_bytes"]["peak"] - 1) <= MOST_GROWTH


def test_the_published_png_is_within_its_bounds_and_the_same_to_all_readers() -> None:
    found = json.loads((MEASURED / "png.json").read_text())
    assert found["side"] == 8192
    best = found["ours"][f"default, {found['cores']} threads"]
    assert best["time"] <= MOST_TIME
    assert best["size"] <= MOST_SIZE
    assert set(best["readers"].values()) == {"same pixels", "valid"}
