"""The image as a hardened container runs it: not root, no capability, a read-only root."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.container.conftest import DATA, Container, running
from tests.container.image import Image
from upscaled import Client


def _run(
    image: Image, *command: str, data: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    binds = {} if data is None else {DATA: data}
    return subprocess.run(
        image.command(*command, binds=binds, **environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_enlarges_an_image(container: Container) -> None:
    with Client(container.address, timeout=120) as client:
        result = client.upscale(REPO / "docs" / "sample.png", model="real-esrgan-animevideo-v3")
    assert result.width == 1280


def test_it_is_not_root_and_has_no_way_to_become_root(container: Container) -> None:
    lines = Path(f"/proc/{container.process.pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert set(status["Uid"]) == {"65532"}
    assert set(status["Gid"]) == {"65532"}
    assert status["Groups"] == []
    assert status["NoNewPrivs"] == ["1"]
    assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_its_health_check_follows_the_server(image: Image, tmp_path: Path) -> None:
    check = image.dockerfile.last(image.stage, "HEALTHCHECK").value.partition("CMD ")[2]
    words = check.strip('[]"').replace('"', "").split(", ")
    data = tmp_path / "data"
    with running(image, data):
        up = _run(image, *words, data=data)
        assert (up.returncode, up.stdout) == (0, "SERVING\n"), up.stderr
    assert _run(image, *words, data=data).returncode == 1


def test_it_ends_with_0_when_it_is_asked_to(image: Image, tmp_path: Path) -> None:
    with running(image, tmp_path / "data") as server:
        server.process.terminate()
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("folder", ["/", "/opt/upscaled", "/models", "/home"])
def test_its_root_cannot_be_written_even_by_root(image: Image, folder: str) -> None:
    done = subprocess.run(
        image.command("sh", "-c", f"echo x > {folder}/x", user=False),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_its_default_address_is_refused_as_long_as_nobody_has_a_key(image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = _run(image, "upscaled", "serve", data=tmp_path)
    assert done.returncode == 1
    assert "upscaled keys create NAME" in done.stderr


def test_a_key_can_be_made_before_the_first_start(image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = _run(image, "upscaled", "keys", "create", "someone", data=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 1


def test_without_the_volume_it_says_what_cannot_be_written(image: Image) -> None:
    done = _run(image, "upscaled", "serve", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "UPSCALED_DATA_DIR: cannot write to /var/lib/upscaled" in done.stderr
