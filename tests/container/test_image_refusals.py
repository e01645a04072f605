"""The build's own lock with one hash less: nothing is installed. Asks the package index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

DOCKER = REPO / "deploy" / "docker"


@pytest.mark.parametrize("package", ["hatchling", "packaging"])
def test_the_build_refuses_its_lock_with_one_hash_taken_away(package: str, tmp_path: Path) -> None:
    if "CONTAINER_STAGE" not in os.environ:
        pytest.skip("`make container-check` asks the package index")
    lines = (DOCKER / "locks" / "build.txt").read_text().replace("\\\n", " ").splitlines()
    (index,) = [number for number, line in enumerate(lines) if line.startswith(f"{package}==")]
    lines[index] = lines[index].partition(" --hash")[0].strip()
    lock = tmp_path / "lock.txt"
    lock.write_text("\n".join(lines))
    done = subprocess.run(
        ["sh", str(DOCKER / "install.sh"), "dependencies", str(lock), str(tmp_path / "tree")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHON": sys.executable},
        check=False,
    )
    assert done.returncode != 0
    assert "--require-hashes" in done.stderr
    assert package in done.stderr
    assert not list(tmp_path.glob("tree/lib/python*/site-packages/*"))
