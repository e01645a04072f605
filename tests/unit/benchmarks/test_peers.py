"""The benchmark against peers: its small parts count right."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.benchmarks import peers
from tests.benchmarks.contest import machine
from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.cases import COMPACT, FULL, RRDB, SHORT, Case, expected_minutes, picture
from tests.benchmarks.contest.entrants import ENTRANTS, STRIPS, TRUTH
from tests.benchmarks.contest.goals import missed
from tests.benchmarks.contest.process import EntrantProcess
from tests.benchmarks.contest.ratios import ratio
from tests.benchmarks.contest.record import Record
from tests.benchmarks.contest.turns import turns
from tests.benchmarks.peers import Bounds
from tests.benchmarks.shares import shares_of
from tests.conftest import REPO

SCRIPTS = REPO / "scripts"


@pytest.fixture
def published() -> dict[str, Any]:
    return json.loads((REPO / "docs" / "benchmarks" / "peers.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def tall() -> dict[str, Any]:
    return json.loads((REPO / "docs" / "benchmarks" / "memory.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def render() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "render_benchmarks.py"))


def test_what_is_published_reached_its_goals(published: dict[str, Any], tall: dict[str, Any]) -> None:
    assert missed(published, tall) == []


def test_a_goal_that_is_missed_is_said(published: dict[str, Any], tall: dict[str, Any]) -> None:
    cases = {(case["model"], case["size"]): case["results"] for case in published["cases"]}
    cases["real-esrgan-x4-plus", "0.14"]["engine"]["seconds"] = [1e3]
    slow = cases["real-esrgan-x4-v3", "1"]["end_to_end"]
    slow["seconds"] = [1e3] * len(slow["seconds"])
    cases["real-esrgan-animevideo-v3", "4"]["realesrganer"]["peak_bytes"] = [1]
    cases["real-esrgan-x4-plus-anime", "0.06"]["engine"]["accuracy"]["largest"] = 2
    cases["real-esrgan-x4-v3", "0.3"]["realesrganer"] = {"failed": "out of memory"}
    tall["rows"][0]["peak_bytes"] *= 2
    tall["rows"][1]["first_rows_seconds"] = 50.0
    assert len(missed(published, tall)) == 7


def test_figures_of_a_card_take_the_place_of_what_is_open(render: dict[str, Any]) -> None:
    case = {"model": "real-esrgan-x4-plus", "width": 960, "height": 540}
    engine = {"images_per_second": 17.25, "share_of_matrix_rate": 0.4321}
    report = {
        "machine": {"commit": "0123456789abcdef"},
        "device": {"name": "a card"},
        "cases": [{**case, "results": {"engine_together": engine, "end_to_end": {"failed": "no server"}}}],
    }
    goals = "\n".join(render["card"](report)).splitlines()[6:]
    assert [line.split("|")[-2].strip() for line in goals if line] == ["17.2", "open", "0.432", "no server"]
    assert [line.split("|")[-2].strip() for line in render["card"](None)[6:] if line] == ["open"] * 4


def test_pairs_of_runs_are_told_by_where_the_cores_were(render: dict[str, Any]) -> None:
    samples = [
        {"each": 1.0, "one": 2.0, "fetching": 2.1},
        {"each": 1.0, "one": 1.25, "fetching": 1.05},
        {"each": 1.0, "one": 1.6, "fetching": 1.5},
    ]
    case = {"model": "m", "width": 4, "height": 3, "samples": samples}
    lines = "\n".join(render["pools"]({"machine": {"commit": "c"}, "cases": [case]})).splitlines()
    assert "| m, 4x3 | together | 1 | 1.00 s | 1.25 s | 0.80 |" in lines
    assert "| m, 4x3 | apart | 1 | 1.00 s | 2.00 s | 0.50 |" in lines
    assert (
        "1."
        in lines[lines.index("| | cores | pairs | a pool for each thread | one pool for all | ratio |") - 2]
    )


def test_a_ratio_is_that_of_the_medians_of_all_runs() -> None:
    results = {"end_to_end": {"seconds": [1.1, 2.2, 2.4]}, "engine": {"seconds": [1.0, 1.0, 2.0]}}
    assert ratio(results, "end_to_end", "engine") == pytest.approx(2.2)
    assert ratio(results, "end_to_end", "engine_in_worker") is None
    assert ratio({**results, "engine": {"seconds": []}}, "end_to_end", "engine") is None


def test_those_whose_ratio_is_near_one_run_until_there_are_enough_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ENOUGH", 12)
    case, names = Case("real-esrgan-animevideo-v3", "0.06"), ["engine", "torch_eager"]
    found = peers.run_case(case, names, Bounds(0.1, 60, 1 << 40, 60), tmp_path / "log").results
    assert len(found["engine"]["seconds"]) == 12
    assert len(found["torch_eager"]["seconds"]) == 3


def test_every_entrant_has_a_name_in_the_tables(render: dict[str, Any]) -> None:
    assert set(ENTRANTS) == set(render["TITLES"])


def test_accuracy_is_that_of_the_formulas() -> None:
    truth = np.full((300, 4, 3), 100, np.uint8)
    result = truth.copy()
    result[299, 0, 0] = 103
    found = compare(result, truth)
    assert found["largest"] == 3
    assert found["share"] == pytest.approx(1 / truth.size)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / (9 / truth.size)), abs=0.01)
    assert compare(truth, truth) == {"psnr": None, "largest": 0, "share": 0.0}


@pytest.mark.parametrize("case", sorted({*SHORT, FULL[3]}, key=str), ids=str)
def test_pictures_have_the_size_of_their_case(case) -> None:  # type: ignore[no-untyped-def]
    assert picture(case).shape == (case.height, case.width, 3)


def test_an_entrant_without_memory_is_a_result_and_not_an_error(tmp_path: Path) -> None:
    case = SHORT[0]
    np.save(tmp_path / "image.npy", picture(case))
    with (tmp_path / "log").open("wb") as log:
        # Enough to begin, too little for a network.
        with EntrantProcess("engine", case, tmp_path / "image.npy", 160 << 20, log) as entrant:
            entrant.run()
            assert not entrant.save(tmp_path / "out.npy")
        assert "memory" in entrant.outcome.failed or "ended" in entrant.outcome.failed
        assert not entrant.outcome.seconds


def test_the_full_run_has_every_model_on_the_sizes_that_were_promised() -> None:
    sizes = {model: [case.size for case in FULL if case.model == model] for model in (*COMPACT, *RRDB)}
    assert all(sizes[model] == ["0.06", "0.3", "1", "4"] for model in COMPACT)
    assert all(sizes[model] == ["0.06", "0.14", "0.3"] for model in RRDB)
    for case in FULL:
        assert case.width * case.height / 1e6 == pytest.approx(float(case.size), rel=0.06)
        assert 0 < expected_minutes(case, 240) < 30


def test_an_entrant_without_time_is_a_result_and_not_an_error(tmp_path: Path) -> None:
    case = Case("real-esrgan-x4-plus", "0.06")
    np.save(tmp_path / "image.npy", picture(case))
    with (tmp_path / "log").open("wb") as log:
        with EntrantProcess(TRUTH, case, tmp_path / "image.npy", 1 << 40, log, limit_seconds=0.05) as entrant:
            assert entrant.run() == 0.0
            assert not entrant.save(tmp_path / "out.npy")
        assert entrant.outcome.failed == "time limit of 0 s"


def test_strips_are_the_whole_image_where_that_is_too_large(tmp_path: Path) -> None:
    case = Case("real-esrgan-animevideo-v3", "0.06")
    np.save(tmp_path / "image.npy", picture(case)[:200, :40])
    results = []
    with (tmp_path / "log").open("wb") as log:
        for name in (TRUTH, STRIPS):
            with EntrantProcess(name, case, tmp_path / "image.npy", 1 << 40, log) as entrant:
                assert entrant.run() > 0, entrant.outcome
                assert entrant.save(tmp_path / "out.npy")
            results.append(np.load(tmp_path / "out.npy"))
    found = compare(results[1], results[0])
    assert found["largest"] in (0, 1)
    assert (found["share"] or 0) < 1e-4


def test_those_whose_ratio_is_near_one_run_beside_each_other_throughout_a_round() -> None:
    names = ["engine", "end_to_end", "a", "b", "c"]
    seconds = dict.fromkeys(names, 1.0)
    first = turns(names, seconds, 0)
    assert first == [*names[:2], "a", "c", *names[:2], "b", *names[:2]]
    assert turns(names, seconds, 1) == first[::-1]
    assert turns(names, seconds, 2) == first


def test_who_needs_long_for_an_image_runs_once_and_of_those_near_one_once_in_a_round() -> None:
    names = ["engine", "end_to_end", "a", "b"]
    seconds = {"engine": 29.0, "end_to_end": 31.0, "a": 1.0, "b": 100.0}
    assert turns(names, seconds, 0) == names
    assert turns(names, seconds, 1) == ["a", "end_to_end", "engine"]
    assert turns(names, seconds, 2) == ["engine", "end_to_end", "a"]
    seconds = {"engine": 9.0, "end_to_end": 11.0, "a": 31.0, "b": 31.0}
    assert turns(names, seconds, 2) == names[:2] * 3


@pytest.mark.parametrize("names", [["a"], ["engine"], ["a", "end_to_end"], list(ENTRANTS)])
def test_nobody_is_left_out_of_a_round(names: list[str]) -> None:
    assert set(turns(names, dict.fromkeys(names, 0.0), 0)) == set(names)


def _head(**machine: object) -> dict[str, object]:
    of_one_run = ("commit", "changed", "cpu", "cores", "memory_bytes", "system", "python", "versions")
    return {
        "machine": {**dict.fromkeys(of_one_run, "x"), **machine},
        "picture": "a.png",
        "limit_bytes": 5,
        "short": True,
    }


def test_a_run_in_parts_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    first = Record(path, _head())
    first.add(SHORT[0], {"engine": {}}, reference=TRUTH)
    second = Record(path, _head())
    second.take_up()
    assert second.has(SHORT[0])
    assert not second.has(SHORT[1])
    second.add(SHORT[1], {"engine": {}}, reference=TRUTH)
    both = Record(path, _head())
    both.take_up()
    assert both.has(SHORT[0])
    assert both.has(SHORT[1])


def test_every_case_says_at_which_commit_it_was_run(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    Record(path, _head(commit="a")).add(SHORT[0], {"engine": {}})
    later = Record(path, _head(commit="b"))
    later.take_up()
    later.add(SHORT[1], {"engine": {}})
    assert [each["commit"] for each in json.loads(path.read_text())["cases"]] == ["a", "b"]


@pytest.mark.parametrize("name", ["cpu", "versions"])
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "peers.json"
    Record(path, _head()).add(SHORT[0], {"engine": {}})
    with pytest.raises(ValueError, match=f"another {name}; begin anew"):
        Record(path, _head(**{name: "y"})).take_up()


def test_a_case_waits_until_the_load_average_has_forgotten_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = iter([9.0, 5.0, 0.0])
    slept: list[float] = []
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (next(loads), 0.0, 0.0))
    monkeypatch.setattr(machine.time, "sleep", slept.append)
    machine.settle(60.0)
    assert len(slept) == 2
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (9.0, 9.0, 9.0))
    machine.settle(0.0)
    assert len(slept) == 2


def test_processor_time_is_told_by_what_libraries_do() -> None:
    report = """
# Overhead  Shared Object
    76.02%  ncnn.cpython-311-x86_64-linux-gnu.so
     9.57%  libpython3.11.so.1.0
     8.00%  libc.so.6
     4.26%  _multiarray_umath.cpython-311-x86_64-linux-gnu.so
     1.87%  [kernel.kallsyms]
     0.28%  libgomp-6a29c32d.so.1.0.0
"""
    assert list(shares_of(report).values()) == [0.7602, 0.08, 0.0426, 0.0957, 0.0187, 0.0028]
