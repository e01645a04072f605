"""The CPU image, built once by its own Dockerfile, and a server in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.container.dockerfile import read
from tests.container.image import Builder, Image, can_build

DOCKERFILE = REPO / "deploy" / "docker" / "Dockerfile"
DATA = "/var/lib/upscaled"


@dataclass(frozen=True, slots=True)
class Container:
    """A running server: where it listens, its process, its data folder."""

    address: str
    process: subprocess.Popen[str]
    data: Path


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The stage that CONTAINER_STAGE names, `cpu` by default."""
    stage = os.environ.get("CONTAINER_STAGE")
    if stage is None:
        pytest.skip("`make container-check` builds the image")
    if not can_build():
        pytest.skip("overlays of the root cannot be mounted here, which takes root")
    scratch = Path(tempfile.mkdtemp(prefix="upscaled-image-"))
    try:
        yield Builder(read(DOCKERFILE), scratch).build(stage)
    finally:
        shutil.rmtree(scratch)


@contextmanager
def running(image: Image, data: Path, **environ: str) -> Iterator[Container]:
    """A server of the image, as its user, on a root that is read-only."""
    data.mkdir(exist_ok=True)
    os.chown(data, 65532, 65532)
    entry = [*image.dockerfile.last(image.stage, "ENTRYPOINT").words, "serve", "--listen", "127.0.0.1:0"]
    command = image.command(*entry, binds={DATA: data}, **environ)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "listening on " not in line:
            raise RuntimeError(f"the server did not start: {line!r}, exit status {process.wait(60)}")
        yield Container(line.rpartition(" ")[2].strip(), process, data)
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="session")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(image, tmp_path_factory.mktemp("data")) as running_server:
        yield running_server
