"""`upscaled upscale --compare realesrgan`: the user's own way to see that the results are upstream's."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.test_compare import picture, run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("realesrgan") is None,
    reason="needs the reference engine: make parity, or pip install 'upscaled[realesrgan]'",
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


def test_the_reference_is_compared_with_and_differs_by_one_at_most(
    server: RunningServer, tmp_path: Path
) -> None:
    done = run(server, picture(tmp_path / "photo.png"), "--compare", "realesrgan", "--json")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    found = line["comparison"]
    assert (line["backend"], found["backend"]) == ("ncnn", "realesrgan")
    assert (found["largest"], found["full_scale"]) in ((0, 255), (1, 255))
    ours, theirs, difference = (
        np.asarray(Image.open(path)).astype(int)
        for path in (line["output"], found["output"], found["difference_image"])
    )
    assert ours.shape == theirs.shape == difference.shape == (160, 224, 3)
    assert np.abs(ours - theirs).max() == found["largest"]
    assert np.array_equal(difference > 0, ours != theirs)


def test_what_a_person_reads_names_both_and_the_files(server: RunningServer, tmp_path: Path) -> None:
    done = run(server, picture(tmp_path / "photo.png"), "--compare", "realesrgan")
    assert done.returncode == 0, done.stderr
    names = ["photo_x4.png", "photo_x4.realesrgan.png", "photo_x4.difference.png"]
    assert done.stdout.splitlines() == [str(tmp_path / name) for name in names]
    for words in ("ncnn fp32", "realesrgan fp32", "largest difference", "PSNR"):
        assert words in done.stderr
