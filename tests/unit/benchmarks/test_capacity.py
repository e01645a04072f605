"""`scripts/capacity.py`: prices and replicas from what was measured."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest
from tests.conftest import REPO

SCRIPT = REPO / "scripts" / "capacity.py"
CAPACITY = runpy.run_path(str(SCRIPT))


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False
    )


def test_the_price_and_the_replicas_follow_the_formulas_of_the_page() -> None:
    demand = CAPACITY["Demand"](megapixels_per_day=86_400.0, price_per_hour=3.6, busy=0.5, peak=2.5)
    found = CAPACITY["cost"](0.5, demand)
    # A megapixel a second is asked for; a server does 0.25 of them.
    assert found.replicas_mean == pytest.approx(4.0)
    assert found.replicas_peak == 10
    assert found.per_thousand_megapixels == pytest.approx(4.0)
    assert found.per_day_autoscaled == pytest.approx(4 * 24 * 3.6)
    assert found.per_day_fixed == pytest.approx(10 * 24 * 3.6)


def test_a_service_with_little_to_do_costs_one_server() -> None:
    demand = CAPACITY["Demand"](megapixels_per_day=1.0, price_per_hour=1.0)
    found = CAPACITY["cost"](10.0, demand)
    assert found.replicas_peak == 1
    assert found.per_day_autoscaled == 24.0


def test_every_measured_model_has_a_line_and_a_named_one_alone() -> None:
    every = _run("--price-per-hour", "0.1", "--megapixels-per-day", "1000")
    names = {speed.model for speed in CAPACITY["measured"]()}
    assert {line.split()[0] for line in every.stdout.splitlines()[1:]} == names
    assert len(names) >= 4

    one = _run("--price-per-hour", "0.1", "--megapixels-per-day", "1000", "--model", "real-esrgan-x4-plus")
    assert [line.split()[0] for line in one.stdout.splitlines()[1:]] == ["real-esrgan-x4-plus"]


def test_a_speed_of_ones_own_takes_the_place_of_the_measured_ones() -> None:
    found = _run(
        "--price-per-hour",
        "3.6",
        "--megapixels-per-day",
        "86400",
        "--megapixels-per-second",
        "0.5",
        "--busy",
        "0.5",
    )
    assert found.stdout.splitlines()[1].split()[2:6] == ["0.5000", "4", "4", "12"]


@pytest.mark.parametrize(
    "options",
    [
        ("--price-per-hour", "0", "--megapixels-per-day", "1"),
        ("--price-per-hour", "1", "--megapixels-per-day", "nan"),
        ("--price-per-hour", "1", "--megapixels-per-day", "1", "--busy", "1.5"),
        ("--price-per-hour", "1", "--megapixels-per-day", "1", "--model", "nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple[str, ...]) -> None:
    found = _run(*options)
    assert found.returncode == 2
    assert "error:" in found.stderr
