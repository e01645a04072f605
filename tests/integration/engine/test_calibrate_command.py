"""`upscaled calibrate` with the packaged weights: what it prints can be given to a server as it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from upscaled_server.engine.machine import usable_cores
from upscaled_server.pool.settings import PoolSettings


def _calibrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upscaled", "calibrate", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_prints_settings_that_a_server_takes() -> None:
    done = _calibrate("--model", "real-esrgan-animevideo-v3", "--seconds", "0.5")
    assert done.returncode == 0, done.stderr
    settings = dict(line.split("=") for line in done.stdout.splitlines() if line.startswith("UPSCALED_"))
    pinned = PoolSettings.model_validate(
        {name.removeprefix("UPSCALED_").lower(): value for name, value in settings.items()}
    )
    assert pinned.threads in range(1, usable_cores() + 1)
    assert pinned.band_rows in (8, 12, 16, 24, 32)


@pytest.mark.parametrize("rows", ["2", "10", "5000"])
def test_a_height_that_no_plan_can_have_is_refused(rows: str) -> None:
    with pytest.raises(ValueError, match="band_rows"):
        PoolSettings.model_validate({"band_rows": rows})


def test_an_unknown_model_is_named() -> None:
    done = _calibrate("--model", "nosuch")
    assert done.returncode == 1
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr
