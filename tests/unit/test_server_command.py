"""The server's commands, as a person meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_SERVER_PACKAGES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("grpc_health", "pydantic_settings", "ncnn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from upscaled.cli import main
sys.exit(main())
"""


def _run(*arguments: str, code: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "upscaled"] if code is None else [sys.executable, "-c", code]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("serve",), ("calibrate",), ("models", "pull", "--all"), ("backup", "to"), ("restore", "from")],
)
def test_without_the_extra_it_says_what_to_install(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments, code=WITHOUT_SERVER_PACKAGES)
    assert done.returncode == 1
    assert "pip install 'upscaled[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_stops_the_start() -> None:
    done = _run("serve", UPSCALED_MAX_INPUT_PIXEL="5")
    assert done.returncode == 2
    assert "UPSCALED_MAX_INPUT_PIXELS" in done.stderr


def test_an_address_others_can_reach_needs_a_word_about_keys() -> None:
    done = _run("serve", "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "UPSCALED_AUTH=none" in done.stderr


def test_pull_wants_names_or_all() -> None:
    assert _run("models", "pull").returncode == 2
    assert "real-esrgan-x4-v3" in _run("models", "pull", "nosuch").stderr


def test_pull_says_where_it_looked_when_nothing_can_be_fetched(tmp_path: Path) -> None:
    done = _run(
        "models",
        "pull",
        "real-esrgan-x4-v3",
        "--to",
        str(tmp_path),
        UPSCALED_MODEL_MIRROR="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    assert "real-esrgan-x4-v3" in done.stderr
    assert "Traceback" not in done.stderr
