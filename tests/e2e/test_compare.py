"""`upscaled upscale --compare` against a real server: both results, their difference, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import RunningServer
from upscaled import Client

MODEL = "real-esrgan-animevideo-v3"


def run(server: RunningServer, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upscaled", "upscale", *map(str, arguments), "--model", MODEL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "UPSCALED_SERVER": server.address, "NO_COLOR": "1", "COLUMNS": "200"},
    )


def picture(path: Path, *, alpha: bool = False) -> Path:
    y, x = np.mgrid[0:40, 0:56]
    planes = [(x * 5) % 256, (y * 5) % 256, (x + y) % 256, 40 + (x * y) % 200][: 4 if alpha else 3]
    Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(path)
    return path


def test_both_results_and_their_difference_are_written(server: RunningServer, tmp_path: Path) -> None:
    photo = picture(tmp_path / "photo.png")
    done = run(server, photo, "--compare", "torch")
    assert done.returncode == 0, done.stderr
    names = ["photo_x4.png", "photo_x4.torch.png", "photo_x4.difference.png"]
    assert done.stdout.splitlines() == [str(tmp_path / name) for name in names]
    ours, theirs, difference = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in names)
    assert ours.shape == difference.shape == (160, 224, 3)
    assert np.abs(ours - theirs).max() <= 1
    assert np.array_equal(difference > 0, ours != theirs)
    for words in ("ncnn fp32", "torch fp32", "largest difference", "values that differ", "PSNR", "times"):
        assert words in done.stderr


def test_several_images_with_json_have_a_line_each(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "plain.png")
    picture(folder / "alpha.png", alpha=True)
    done = run(server, folder, "-o", tmp_path / "out", "--compare", "torch", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["output"]).name for line in lines] == ["alpha.png", "plain.png"]
    for line in lines:
        compared = line["comparison"]
        assert line["backend"] == "ncnn"
        assert compared["backend"] == "torch"
        assert compared["largest"] <= 1
        assert compared["full_scale"] == 255
        assert Image.open(compared["difference_image"]).size == Image.open(compared["output"]).size
        assert compared["seconds"] >= compared["network_seconds"] > 0
    # Every file of every image is there: the second run has nothing to do.
    again = run(server, folder, "-o", tmp_path / "out", "--compare", "torch", "--json")
    assert again.returncode == 0
    assert all("skipped" in json.loads(line) for line in again.stdout.splitlines())


@pytest.mark.parametrize("name", ["photo_x4.png", "photo_x4.torch.png", "photo_x4.difference.png"])
def test_no_existing_file_is_replaced(server: RunningServer, tmp_path: Path, name: str) -> None:
    photo = picture(tmp_path / "photo.png")
    (tmp_path / name).write_bytes(b"mine")
    done = run(server, photo, "--compare", "torch")
    assert done.returncode == 1
    assert f"{tmp_path / name} exists; --overwrite replaces it" in done.stderr
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_backend_that_the_server_lacks_is_told_before_the_work_with_its_extra(
    server: RunningServer, tmp_path: Path
) -> None:
    photo = picture(tmp_path / "photo.png")
    with Client(server.address) as client:
        if "realesrgan" in client.server_info().backends:
            return  # tests/conformance/test_reference_compare.py is for this
    done = run(server, photo, "--compare", "realesrgan")
    assert done.returncode == 1
    assert "upscaled[realesrgan]" in done.stderr
    assert list(tmp_path.iterdir()) == [photo]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare", "../torch"], "the name of a backend"),
        (["--compare", "torch", "--format", "jpeg"], "only png"),
        (["--compare", "torch", "-o", "out.webp"], "only png"),
    ],
)
def test_what_cannot_be_compared_is_wrong_usage(
    server: RunningServer, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = run(server, picture(tmp_path / "photo.png"), *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_result_never_takes_the_name_of_another(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png")
    picture(folder / "a.difference.png")
    done = run(server, folder, "-o", tmp_path / "out", "--compare", "torch")
    assert done.returncode == 2
    assert "would hold" in done.stderr
    assert not (tmp_path / "out").exists()
