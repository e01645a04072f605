"""The manifests, rendered once."""

from __future__ import annotations

import copy
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
def installations(kubernetes: Path) -> dict[Choice, list[Object]]:
    """Every installation that is checked."""
    folder = kubernetes.parent.parent / "mine"
    folder.mkdir()
    return {choice: render_choice(kubernetes, choice, folder) for choice in choices()}


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
