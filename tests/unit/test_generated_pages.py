"""The pages that scripts write are what these give, and `make docs` knows of every such script."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.conftest import REPO

# `make proto` writes this one's page, since it comes of the contract.
OF_THE_CONTRACT = {"scripts/render_openapi.py"}


def _listed() -> list[str]:
    """What the Makefile runs for `make docs` and `make docs-check`."""
    (line,) = [line for line in (REPO / "Makefile").read_text().splitlines() if line.startswith("DOCS := ")]
    return line.split()[2:]


def test_every_script_that_writes_a_page_is_run_by_make_docs() -> None:
    there = {f"scripts/{path.name}" for path in (REPO / "scripts").glob("render_*.py")}
    assert there - OF_THE_CONTRACT == set(_listed())


@pytest.mark.parametrize("script", _listed())
def test_a_page_is_what_its_script_gives(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(REPO / script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, "run make docs: " + done.stdout + done.stderr
