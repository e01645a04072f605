"""The catalogue: names, aliases and the numbers of the official files."""

from __future__ import annotations

import re

import pytest

from upscaled_server.engine.architectures import Compact, Rrdb
from upscaled_server.engine.catalogue import DEFAULT_MODEL, MODELS, Catalogue, ModelSpec
from upscaled_server.errors import NotFound


def test_there_are_six_models_and_a_default() -> None:
    assert len(MODELS) == 6
    assert Catalogue().resolve("").name == DEFAULT_MODEL == "real-esrgan-x4-plus"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("RealESRGAN_x4plus", "real-esrgan-x4-plus"),
        ("RealESRGAN_x2plus", "real-esrgan-x2-plus"),
        ("RealESRGAN_x4plus_anime_6B", "real-esrgan-x4-plus-anime"),
        ("realesr-general-x4v3", "real-esrgan-x4-v3"),
        ("realesr-general-wdn-x4v3", "real-esrgan-x4-v3-wdn"),
        ("realesr-animevideov3", "real-esrgan-animevideo-v3"),
        ("REAL-ESRGAN-X4-PLUS", "real-esrgan-x4-plus"),
    ],
)
def test_upstream_names_are_aliases(alias: str, name: str) -> None:
    assert Catalogue().resolve(alias).name == name


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NotFound, match="real-esrgan-animevideo-v3"):
        Catalogue().resolve("waifu2x")


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_a_model_states_everything_a_planner_and_a_reader_need(spec: ModelSpec) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", spec.official.sha256)
    assert spec.official.url.startswith("https://github.com/xinntao/Real-ESRGAN/releases/download/v0.")
    assert spec.official.url.endswith(".pth")
    assert spec.description
    assert "\n" not in spec.description
    assert 0 < spec.seconds_per_pixel < 1e-3
    assert spec.bytes_per_pixel > 1000
    assert spec.halo % spec.multiple == 0
    # No more context than a pixel can see, and for the compact networks all of it.
    assert spec.halo <= spec.architecture.receptive_field
    if isinstance(spec.architecture, Compact):
        assert spec.halo == spec.architecture.receptive_field


def test_the_tensors_have_the_sizes_of_the_official_networks() -> None:
    def numbers(architecture: Compact | Rrdb) -> int:
        total = 0
        for shape in architecture.shapes().values():
            count = 1
            for length in shape:
                count *= length
            total += count
        return total

    assert numbers(Rrdb(blocks=23)) == 16_697_987
    assert numbers(Rrdb(blocks=23, scale=2)) == 16_703_171
    assert numbers(Compact(convs=32)) == 1_213_296
