"""The manifests, rendered once."""

from __future__ import annotations

import copy
import fcntl
import json
import os
from pathlib import Path

import pytest

from tests.kubernetes.rendering import (
    Choice,
    Object,
    choices,
    copy_tree,
    kustomize_is_here,
    render,
    render_choice,
)


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `deploy/kubernetes` among its neighbours."""
    if not kustomize_is_here():
        pytest.skip("needs kubectl 1.27 or newer, whose kustomize renders the manifests")
    return copy_tree(tmp_path_factory.mktemp("manifests"))


@pytest.fixture(scope="session")
def installations(kubernetes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Choice, list[Object]]:
    """Every installation that is checked. Where tests run in several processes, one renders for all."""
    mine = tmp_path_factory.getbasetemp()
    common = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    rendered = common / "installations.json"
    with (common / "installations.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not rendered.exists():
            folder = kubernetes.parent.parent / "mine"
            folder.mkdir()
            found = [render_choice(kubernetes, choice, folder) for choice in choices()]
            rendered.write_text(json.dumps(found))
    return dict(zip(choices(), json.loads(rendered.read_text()), strict=True))


@pytest.fixture(scope="session")
def extras(kubernetes: Path) -> dict[str, list[Object]]:
    """What is applied beside an installation."""
    return {name: render(kubernetes / name) for name in ("policy", "smoke-test", "smoke-test-tls")}


@pytest.fixture
def cpu(installations: dict[Choice, list[Object]]) -> list[Object]:
    """The plain CPU installation, for a test to spoil."""
    return copy.deepcopy(installations[Choice("cpu")])


@pytest.fixture
def edge_installation(installations: dict[Choice, list[Object]]) -> list[Object]:
    return copy.deepcopy(installations[Choice("cpu", ("edge",))])


@pytest.fixture
def scaled(installations: dict[Choice, list[Object]]) -> list[Object]:
    return copy.deepcopy(installations[Choice("cpu", ("calls-only", "hpa"))])
