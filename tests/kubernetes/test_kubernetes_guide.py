"""What deploy/kubernetes/README.md names is there, and its kustomizations make what is in order."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO
from tests.kubernetes import installation_rules, pod_rules, pod_security
from tests.kubernetes.installation import DOCUMENTED, Installation
from tests.kubernetes.rendering import COMPONENTS, OVERLAYS, pods, render
from upscaled_server.app import SETTINGS

GUIDE = (REPO / "deploy" / "kubernetes" / "README.md").read_text()
REMOTE = "https://github.com/upscaled/upscaled//deploy/kubernetes/"

KUSTOMIZATIONS = [
    block for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "kind: Kustomization" in block
]


@pytest.mark.parametrize("number", range(len(KUSTOMIZATIONS)))
def test_a_kustomization_of_the_guide_is_in_order(kubernetes: Path, tmp_path: Path, number: int) -> None:
    text = KUSTOMIZATIONS[number].replace(REMOTE, f"{os.path.relpath(kubernetes, tmp_path)}/")
    assert REMOTE in KUSTOMIZATIONS[number]
    (tmp_path / "kustomization.yaml").write_text(re.sub(r"\?ref=v[\d.]+", "", text))
    objects = render(tmp_path)
    for pod in pods(objects):
        assert pod_security.violations(pod) == {}
        assert pod_rules.violations(pod) == {}
    assert installation_rules.violations(Installation(objects)) == {}


def test_the_guide_has_an_installation_of_each_kind() -> None:
    used = {
        entry.removeprefix(REMOTE).partition("?")[0]
        for block in KUSTOMIZATIONS
        for entry in (*yaml.safe_load(block)["resources"], *yaml.safe_load(block).get("components", ()))
    }
    assert {f"overlays/{name}" for name in OVERLAYS} <= used


def test_every_folder_that_the_guide_names_is_there_and_every_one_is_named(kubernetes: Path) -> None:
    for path in re.findall(r"-k deploy/kubernetes/([\w/-]+)", GUIDE):
        assert render(kubernetes / path)
    there = {
        path.parent.relative_to(kubernetes).as_posix() for path in kubernetes.rglob("kustomization.yaml")
    }
    assert {f"components/{name}" for name in COMPONENTS} <= there
    assert {name for name in there if f"`{name}`" not in GUIDE} == set()


def test_what_the_operator_makes_is_described() -> None:
    for kind, name in DOCUMENTED:
        said = f"create secret generic {name}" if kind == "Secret" else f"the claim `{name}`"
        assert said in GUIDE


def test_the_settings_that_the_guide_names_are_settings() -> None:
    known = {f"UPSCALED_{field.upper()}" for kind in SETTINGS for field in kind.model_fields}
    assert set(re.findall(r"UPSCALED_[A-Z_]*[A-Z]", GUIDE)) <= known


def test_links_lead_to_files_and_headings_that_are_there() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in GUIDE.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        path, _, heading = target.partition("#")
        if path:
            assert (REPO / "deploy" / "kubernetes" / path).is_file(), target
        else:
            assert heading in headings, target
