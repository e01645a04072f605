"""The benchmark against peers: its documents are what its JSON gives, and its small parts count right."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.cases import FULL, SHORT, picture
from tests.benchmarks.contest.entrants import ENTRANTS
from tests.benchmarks.contest.process import EntrantProcess
from tests.conftest import REPO

RENDER = runpy.run_path(str(REPO / "scripts" / "render_benchmarks.py"))


def test_the_tables_and_the_chart_are_what_the_committed_json_gives() -> None:
    for path, text in RENDER["outputs"]().items():
        assert path.read_text() == text, f"run scripts/render_benchmarks.py: {path.name} is not up to date"


def test_every_entrant_has_a_name_in_the_tables() -> None:
    assert set(ENTRANTS) == set(RENDER["TITLES"])


def test_accuracy_is_that_of_the_formulas() -> None:
    truth = np.full((300, 4, 3), 100, np.uint8)
    result = truth.copy()
    result[299, 0, 0] = 103
    found = compare(result, truth)
    assert found["largest"] == 3
    assert found["share"] == pytest.approx(1 / truth.size)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / (9 / truth.size)), abs=0.01)
    assert compare(truth, truth) == {"psnr": None, "largest": 0, "share": 0.0}


@pytest.mark.parametrize("case", {*SHORT, FULL[3]}, ids=str)
def test_pictures_have_the_size_of_their_case(case) -> None:  # type: ignore[no-untyped-def]
    assert picture(case).shape == (case.height, case.width, 3)


def test_an_entrant_without_memory_is_a_result_and_not_an_error(tmp_path: Path) -> None:
    case = SHORT[0]
    np.save(tmp_path / "image.npy", picture(case))
    with (tmp_path / "log").open("wb") as log:
        # Enough to begin, too little for a network.
        with EntrantProcess("engine", case, tmp_path / "image.npy", 120 << 20, log) as entrant:
            entrant.run()
            assert not entrant.save(tmp_path / "out.npy")
        assert "memory" in entrant.outcome.failed or "ended" in entrant.outcome.failed
        assert not entrant.outcome.seconds
