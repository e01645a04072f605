"""Options outside their ranges are refused before anything is decoded, naming field, limit and value."""

from __future__ import annotations

import math

import pytest

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import FailedPrecondition, InvalidField, NotFound
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Format, Options, TileOptions
from upscaled_server.pipeline.settle import Settled, settle


def _settle(options: Options) -> Settled:
    return settle(options, Catalogue(), LimitSettings(), ("ncnn",))


def test_an_empty_request_gets_every_default() -> None:
    settled = _settle(Options())
    assert settled.options.model == "real-esrgan-x4-plus"
    assert (settled.options.passes, settled.options.format, settled.options.quality) == (1, Format.PNG, None)


def test_an_upstream_name_is_resolved() -> None:
    assert _settle(Options(model="realesr-animevideov3")).options.model == "real-esrgan-animevideo-v3"


def test_an_unknown_model_lists_the_names() -> None:
    with pytest.raises(NotFound, match="real-esrgan-x4-v3-wdn"):
        _settle(Options(model="waifu2x"))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(scale=0.0), "options.scale"),
        (Options(scale=-2.0), "options.scale"),
        (Options(scale=math.nan), "options.scale"),
        (Options(scale=math.inf), "options.scale"),
        (Options(scale=1e9), "options.scale"),
        (Options(scale=2.0, width=100), "options.width"),
        (Options(scale=2.0, height=100), "options.height"),
        (Options(width=0), "options.width"),
        (Options(width=-5), "options.width"),
        (Options(height=2**31 - 1), "options.height"),
        (Options(passes=-1), "options.passes"),
        (Options(passes=99), "options.passes"),
        (Options(quality=0, format=Format.JPEG), "options.quality"),
        (Options(quality=101, format=Format.JPEG), "options.quality"),
        (Options(quality=90, format=Format.PNG), "options.quality"),
        (Options(lossless=True, format=Format.JPEG), "options.lossless"),
        (Options(lossless=True, format=Format.AVIF), "options.lossless"),
        (Options(quality=90, format=Format.TIFF), "options.quality"),
        (Options(progressive=True), "options.progressive"),
        (Options(bit_depth=12), "options.bit_depth"),
        (Options(bit_depth=16, format=Format.JPEG), "options.bit_depth"),
        (Options(bit_depth=16, format=Format.AVIF), "options.bit_depth"),
        (Options(tiles=TileOptions(size=1)), "options.tiles.size"),
        (Options(tiles=TileOptions(size=100_000)), "options.tiles.size"),
        (Options(tiles=TileOptions(quality=0)), "options.tiles.quality"),
        (Options(file_name="../etc/passwd"), "options.file_name"),
        (Options(file_name="a\r\nb"), "options.file_name"),
        (Options(file_name=".."), "options.file_name"),
        (Options(file_name="x" * 256), "options.file_name"),
        (Options(backend="tensorrt"), "options.backend"),
        (Options(model="real-esrgan-x4-v3", denoise_strength=1.01), "options.denoise_strength"),
        (Options(model="real-esrgan-x4-v3", denoise_strength=math.nan), "options.denoise_strength"),
        (Options(model="real-esrgan-x4-plus", denoise_strength=0.5), "options.denoise_strength"),
        (Options(model="real-esrgan-x4-v3-wdn", denoise_strength=0.5), "options.denoise_strength"),
    ],
)
def test_a_value_outside_its_range_names_its_field_limit_and_value(options: Options, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        _settle(options)
    assert caught.value.field == field
    assert {"field", "limit", "actual"} <= set(caught.value.numbers)


@pytest.mark.parametrize(
    ("strength", "used", "adjusted"),
    [
        (None, None, None),
        (1.0, 1.0, None),
        (0.0, 0.0, 0),
        (0.3, 0.3, 30),
        (0.123, 0.12, 12),
        (0.999, 1.0, None),
    ],
)
def test_denoise_strength_is_taken_in_hundredths(
    strength: float | None, used: float | None, adjusted: int | None
) -> None:
    settled = _settle(Options(model="real-esrgan-x4-v3", denoise_strength=strength))
    assert settled.options.denoise_strength == used
    assert settled.variant.denoise == adjusted


def test_a_backend_that_is_known_but_not_there_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscaled_server.engine.device.backend_installed", lambda _: False)
    with pytest.raises(FailedPrecondition, match=r"upscaled\[realesrgan\]"):
        _settle(Options(backend="realesrgan"))
