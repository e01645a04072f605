"""The lock files of the images: whole, hashed, and of the public index alone."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.conftest import REPO
from tests.unit.deploy.locked import LOCKS, Pin, pins_of

INSTALL = REPO / "deploy" / "docker" / "install.sh"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]

# Whoever adds an extra decides here and in `scripts/locks.py` whether the images have it.
NOT_IN_IMAGES = {"bench", "dev", "edge", "fuzz", "images", "realesrgan"}
ONLY_WITH_CUDA = {"custom-models", "torch"}
NOT_INSTALLED = {"opencv-python"}

PYTHONS = ("3.11", "3.12", "3.13")


def _asked(name: str) -> list[Requirement]:
    if name == "build":
        return list(map(Requirement, PROJECT["build-system"]["requires"]))
    without = NOT_IN_IMAGES | (set() if name == "cuda" else ONLY_WITH_CUDA)
    texts = [text for extra, each in EXTRAS.items() if extra not in without for text in each]
    return list(map(Requirement, [*PROJECT["project"]["dependencies"], *texts]))


def _locked(pins: list[Pin], wanted: Requirement, python: str) -> Pin:
    """The one pin that is in force; fails where there is none, two, or one that does not fit."""
    found = [pin for pin in pins if pin.name == canonicalize_name(wanted.name) and pin.holds(python)]
    assert len(found) == 1, f"{wanted} on Python {python}: {found}"
    assert wanted.specifier.contains(found[0].version, prereleases=True), f"{wanted}: {found[0].version}"
    return found[0]


@pytest.mark.parametrize("name", ["build", "cpu", "cuda"])
def test_every_line_is_pinned_and_hashed(name: str) -> None:
    pins = pins_of(name)
    assert pins
    assert [pin.name for pin in pins if not pin.hashes] == []


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["build", "cpu", "cuda"])
def test_it_has_what_the_project_asks_for(name: str, python: str) -> None:
    pins = pins_of(name)
    for wanted in _asked(name):
        _locked(pins, wanted, python)


@pytest.mark.parametrize("name", ["build", "cpu", "cuda"])
def test_it_has_what_its_packages_ask_for(name: str) -> None:
    """As far as they are installed here in the locked version."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pins, looked_at = pins_of(name), 0
    extras = {canonicalize_name(each.name): each.extras for each in _asked(name)}
    for pin in pins:
        try:
            found = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if found.version != pin.version or not pin.holds(python):
            continue
        looked_at += 1
        for text in found.requires or []:
            wanted = Requirement(text)
            asked = [{"extra": extra} for extra in (*extras.get(pin.name, ()), "")]
            applies = wanted.marker is None or any(map(wanted.marker.evaluate, asked))
            if applies and canonicalize_name(wanted.name) not in NOT_INSTALLED:
                _locked(pins, wanted, python)
    assert looked_at > 0 if name == "build" else looked_at > 20


def test_what_both_images_have_is_of_one_version() -> None:
    cuda = {(pin.name, pin.version) for pin in pins_of("cuda")}
    assert {(pin.name, pin.version) for pin in pins_of("cpu")} <= cuda


def test_the_cpu_image_has_neither_torch_nor_cuda() -> None:
    heavy = re.compile(r"(torch.*|triton|nvidia-.*|cuda-.*|opencv.*)")
    assert [pin.name for pin in pins_of("cpu") if heavy.fullmatch(pin.name)] == []


def test_torch_is_the_version_that_is_tested_and_brings_its_cuda_libraries() -> None:
    pins = pins_of("cuda")
    tested = dict(re.findall(r"^(\S+)==(\S+)$", (REPO / "constraints.txt").read_text(), re.MULTILINE))
    (torch,) = [pin for pin in pins if pin.name == "torch"]
    assert torch.version == tested["torch"]
    assert "+" not in torch.version  # a local build
    assert [pin.name for pin in pins if pin.name.startswith("nvidia-cudnn")]


@pytest.mark.parametrize("name", ["build", "cpu", "cuda"])
def test_it_names_no_index_no_address_and_no_folder(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert re.findall(r"://|@ |--(?:extra-)?index-url|--find-links|--trusted-host|(?<![\w-])/\w+", text) == []


def _install(lock: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "lock.txt"
    path.write_text(lock)
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    return subprocess.run(
        ["sh", str(INSTALL), "dependencies", str(path), str(folder / "tree")],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
            **nowhere,
            "PYTHON": sys.executable,
        },
        check=False,
    )


def _wheel(folder: Path, version: str) -> tuple[Path, str]:
    """A wheel of our own, and its hash: nothing has to be fetched."""
    path = folder / f"harmless-{version}-py3-none-any.whl"
    info = f"harmless-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("harmless.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: harmless\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_build_refuses_a_package_without_a_hash(tmp_path: Path) -> None:
    wheel, digest = _wheel(tmp_path, "1.0")
    source = f"--find-links {tmp_path}\n"
    accepted = _install(f"{source}harmless==1.0 --hash=sha256:{digest}\n", tmp_path)
    assert accepted.returncode == 0, accepted.stderr
    assert list(tmp_path.glob("tree/lib/python*/site-packages/harmless.py"))

    other = tmp_path / "other"
    other.mkdir()
    refused = _install(f"{source}harmless==1.0\n", other)
    assert refused.returncode != 0
    assert "--require-hashes" in refused.stderr
    assert not list(other.glob("tree/lib/python*/site-packages/harmless.py"))
    assert wheel.exists()


def test_the_build_refuses_a_package_whose_hash_is_another(tmp_path: Path) -> None:
    _wheel(tmp_path, "1.0")
    refused = _install(f"--find-links {tmp_path}\nharmless==1.0 --hash=sha256:{'0' * 64}\n", tmp_path)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not list(tmp_path.glob("tree/lib/python*/site-packages/harmless.py"))
