"""The benchmark for cards: tried out on the CPU, where it runs every line of it on a tiny picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.benchmarks import gpu
from tests.benchmarks.card.contenders import DEVICE, HOST

from upscaled_server.engine.catalogue import MODELS
from upscaled_server.engine.multiply_adds import multiply_adds_per_pixel


def test_it_measures_everybody_and_saves_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "gpu.json"
    assert gpu.main(["--device", "cpu", "--small", "--rounds", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["device"]["kind"] == "cpu"
    assert report["matrix"]["tflops"] > 0
    (case,) = report["cases"]
    results = case["results"]
    assert set(results) == {*HOST, *DEVICE, "end_to_end"}
    # Only this one may be missing: it is an extra of its own.
    missing = [name for name, result in results.items() if "failed" in result]
    assert missing in ([], ["realesrganer"]), [results[name]["failed"] for name in missing]
    for name in {*HOST, *DEVICE} - {"realesrganer"}:
        result = results[name]
        assert result["tflops"] == pytest.approx(case["operations"] * result["images_per_second"] / 1e12)
        assert result["share_of_matrix_rate"] == pytest.approx(result["tflops"] / report["matrix"]["tflops"])
        assert result["accuracy"]["largest"] <= 1
        assert result["accuracy"]["beyond_2"] == 0
    assert results["engine_together"]["images"] == 3
    assert results["end_to_end"]["of_engine"] > 0
    assert "PNG, client to server and back" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="no GPU would have to be here")
def test_without_a_card_it_says_so_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--out", str(out)]) == 1
    assert "no CUDA card" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        ("real-esrgan-x4-plus", 17.93),
        ("real-esrgan-x2-plus", 4.48),
        ("real-esrgan-x4-plus-anime", 5.71),
        ("real-esrgan-animevideo-v3", 0.619),
        ("real-esrgan-x4-v3", 1.209),
    ],
)
def test_multiply_adds_are_those_of_the_networks(model: str, millions: float) -> None:
    spec = next(spec for spec in MODELS if spec.name == model)
    assert multiply_adds_per_pixel(spec.architecture) == pytest.approx(millions * 1e6, rel=2e-3)
