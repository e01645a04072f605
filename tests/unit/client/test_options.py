"""Keywords become the contract's options, and wrong ones are refused in words."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from upscaled import InvalidOptionError, Options, Tiles, _enums, _options, _types
from upscaled._options import add_tiles, build_options
from upscaled.v1 import options_pb2


def test_the_keywords_are_the_fields_of_the_contract() -> None:
    fields = {field.name for field in options_pb2.UpscaleOptions.DESCRIPTOR.fields}
    assert set(Options.__annotations__) == fields - {"tiles", "omit_file"}  # parameters of upscale_stream


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (_options.FitName, _enums.FIT),
        (_options.FormatName, _enums.FORMAT),
        (_options.CompressionName, _enums.COMPRESSION),
        (_options.ChromaSubsamplingName, _enums.CHROMA_SUBSAMPLING),
        (_options.AlphaName, _enums.ALPHA),
        (_options.MetadataName, _enums.METADATA),
        (_options.ColorSpaceName, _enums.COLOR_SPACE),
        (_options.DeliveryName, _enums.DELIVERY),
        (_options.PriorityName, _enums.PRIORITY),
        (_types.TileEncodingName, _enums.TILE_ENCODING),
    ],
)
def test_the_names_in_the_types_are_those_of_the_contract(names: object, table: _enums.NameTable) -> None:
    assert get_args(names) == table.names


def test_every_option_arrives() -> None:
    message = build_options(
        "upscale",
        {
            "model": "m",
            "scale": 2.5,
            "fit": "cover",
            "passes": 2,
            "format": "jpeg",
            "quality": 80,
            "lossless": True,
            "compression": "small",
            "progressive": True,
            "chroma_subsampling": "4:4:4",
            "bit_depth": 16,
            "denoise_strength": 0.5,
            "alpha": "network",
            "metadata": "strip-gps",
            "color_space": "SRGB",
            "delivery": "url",
            "priority": "batch",
            "labels": {"a": "b"},
            "backend": "torch",
            "file_name": "x",
        },
    )
    assert message.format == options_pb2.FORMAT_JPEG
    assert message.chroma_subsampling == options_pb2.CHROMA_SUBSAMPLING_444
    assert message.metadata == options_pb2.METADATA_STRIP_GPS
    assert message.color_space == options_pb2.COLOR_SPACE_SRGB
    assert (message.scale, message.passes, dict(message.labels)) == (2.5, 2, {"a": "b"})


def test_none_and_left_out_both_leave_the_choice_to_the_server() -> None:
    message = build_options("upscale", {"scale": None, "width": None, "format": None, "labels": None})
    assert message == options_pb2.UpscaleOptions()
    assert not message.HasField("scale")


def test_zero_and_nan_are_sent_for_the_server_to_refuse() -> None:
    message = build_options("upscale", {"scale": math.nan, "width": 0})
    assert message.HasField("width")
    assert math.isnan(message.scale)


@pytest.mark.parametrize(("name", "value"), [("format", "gif"), ("fit", 3), ("priority", "")])
def test_a_wrong_name_is_refused_with_the_choices(name: str, value: object) -> None:
    with pytest.raises(InvalidOptionError, match=f"{name}: one of .*, .* is expected; got"):
        build_options("upscale", {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 1 << 40),
        ("width", "2048"),
        ("scale", "4"),
        ("labels", {"a": 1}),
        ("labels", 3),
        ("model", 4),
    ],
)
def test_a_value_that_cannot_be_sent_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises(InvalidOptionError, match=f"^{name}: "):
        build_options("upscale", {name: value})


def test_an_unknown_option_is_a_type_error_that_guesses() -> None:
    with pytest.raises(TypeError, match="did you mean 'scale'"):
        build_options("upscale", {"scael": 4})
    with pytest.raises(TypeError, match="upscale_stream"):
        build_options("upscale", {"tiles": True})


def test_tiles_are_asked_for_with_or_without_wishes() -> None:
    message = options_pb2.UpscaleOptions()
    add_tiles(message, False)
    assert not message.HasField("tiles")
    add_tiles(message, True)
    assert message.tiles == options_pb2.TileOptions(enabled=True)
    add_tiles(message, Tiles(size=256, encoding="raw_rgb", quality=70))
    assert message.tiles == options_pb2.TileOptions(
        enabled=True, size=256, encoding=options_pb2.TILE_ENCODING_RAW_RGB, quality=70
    )
    with pytest.raises(InvalidOptionError, match=r"tiles\.encoding"):
        add_tiles(message, Tiles(encoding="gif"))  # type: ignore[arg-type]
