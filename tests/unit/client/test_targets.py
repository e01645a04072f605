"""What the command reads and what it calls the results."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

from upscaled import Model, Plan
from upscaled.cli.estimate import duration, warning
from upscaled.cli.targets import UsageError, find_targets, format_of, size_tag
from upscaled.v1 import models_pb2, result_pb2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    (photos / "deeper").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "notes.txt", "deeper/c.png"):
        (photos / name).write_bytes(b"x")
    return photos


def test_a_result_goes_beside_its_image(folder: Path) -> None:
    (target,) = find_targets([folder / "b.jpg"], None, "_x4", ".png")
    assert target.output == folder / "b_x4.png"
    assert not target.listed


def test_the_images_of_a_folder_go_beside_the_folder(folder: Path) -> None:
    targets = find_targets([folder], None, "_x4", ".png")
    assert [t.output for t in targets] == [folder.parent / "photos_x4" / name for name in ("a.png", "b.png")]
    assert all(t.listed for t in targets)


def test_several_images_go_into_the_named_folder(folder: Path) -> None:
    targets = find_targets([folder / "a.PNG", folder / "b.jpg"], str(folder.parent / "out"), "_x2", ".jpg")
    assert [t.output.name for t in targets] == ["a_x2.jpg", "b_x2.jpg"]


def test_two_results_of_one_name_are_refused(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"would both become"):
        find_targets([folder], None, "_x4", ".png")


def test_an_image_never_replaces_itself(folder: Path) -> None:
    with pytest.raises(UsageError, match="replace itself"):
        find_targets([folder], str(folder), "_x4", ".jpg")


def test_an_empty_folder_and_a_file_for_many_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        find_targets([tmp_path / "empty"], None, "_x4", ".png")
    with pytest.raises(UsageError, match="need a folder"):
        find_targets([folder], str(folder / "notes.txt"), "_x4", ".png")


def test_the_suffix_of_the_output_names_the_format() -> None:
    assert format_of("x.JPG", None) == "jpeg"
    assert format_of("x.jpg", "png") == "png"
    assert format_of("folder", None) is None
    with pytest.raises(UsageError, match=r"\.gif"):
        format_of("x.gif", None)


def test_the_size_is_in_the_name() -> None:
    assert size_tag(None, None, None, 4) == "_x4"
    assert size_tag(2.5, None, None, 4) == "_x2.5"
    assert size_tag(None, 2048, None, 4) == "_2048w"
    assert size_tag(None, None, 1080, 4) == "_1080h"
    assert size_tag(None, 2048, 1080, 4) == "_2048x1080"


def model(name: str, seconds: float, **more: object) -> Model:
    return Model.from_message(
        models_pb2.Model(name=name, scale=4, available=True, seconds_per_megapixel=seconds, **more)  # type: ignore[arg-type]
    )


MODELS = [
    model("real-esrgan-x4-plus", 155, is_default=True),
    model("real-esrgan-animevideo-v3", 5),
    model("real-esrgan-x4-v3", 11),
]


def plan(width: int, height: int, seconds: float = 0.0) -> Plan:
    return Plan.from_message(
        result_pb2.Plan(input_width=width, input_height=height, estimated_seconds=seconds)
    )


def test_twelve_megapixels_are_announced_with_the_faster_models() -> None:
    text = warning(plan(4000, 3000), "", MODELS)
    assert text is not None
    assert "12 megapixels with real-esrgan-x4-plus will take about 31 min" in text
    assert "--model real-esrgan-x4-v3 about 2 min" in text
    assert "--model real-esrgan-animevideo-v3 about 60 s" in text


def test_short_work_and_fast_models_are_not_talked_about() -> None:
    assert warning(plan(100, 100), "", MODELS) is None
    text = warning(plan(8000, 4000), "real-esrgan-animevideo-v3", MODELS)
    assert text is not None
    assert "faster" not in text


def test_durations_are_as_exact_as_estimates_deserve() -> None:
    assert [duration(s) for s in (0.2, 44.6, 1860, 5400, 9000)] == [
        "1 s",
        "45 s",
        "31 min",
        "1 h 30 min",
        "2 h 30 min",
    ]
