"""The main job over gRPC, with the real networks: an image in, the enlarged file out."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import RunningServer
from upscaled import Chunk, Client, Done, Plan, Progress, Tile, Tiles

FAST = "real-esrgan-animevideo-v3"


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Client:
    return Client(server.address, timeout=120)


def _png(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Gradients and edges, so that a shifted or mirrored result differs."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack(
        [x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x // 4 + y // 4) % 2 * 200], -1
    )
    return Image.fromarray(picture.astype(np.uint8)).convert(mode)


def test_a_path_becomes_a_file_of_exactly_four_times_the_size(
    client: Client, sample: Path, tmp_path: Path
) -> None:
    result = client.upscale(sample, model=FAST)
    saved = Image.open(result.save(tmp_path / "out.png"))
    assert saved.size == (result.width, result.height) == (1280, 960)
    assert result.content_type == "image/png"
    assert hashlib.sha256(result.data).digest() == result.sha256
    assert result.settings.model == FAST
    assert result.provenance.backend == "ncnn"
    assert {"decode", "infer", "encode"} <= set(result.timings.stages)


def test_of_an_image_that_comes_in_strips_most_time_is_the_network_s(client: Client) -> None:
    file = io.BytesIO()
    _scene(900, 700).save(file, "PNG")
    timings = client.upscale(file.getvalue(), model=FAST).timings
    assert timings.stages["infer"] > 0.5 * timings.total_seconds


def test_the_result_resembles_the_input(client: Client, sample: Path) -> None:
    result = client.upscale(sample, model=FAST)
    small = Image.open(io.BytesIO(result.data)).resize((320, 240), Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, float) - np.asarray(Image.open(sample).convert("RGB"), float))
    assert difference.mean() < 5


def test_a_stream_gives_plan_then_tiles_and_chunks_then_done(client: Client, sample: Path) -> None:
    events = list(client.upscale_stream(sample, model=FAST, tiles=Tiles(size=256, encoding="raw_rgb")))
    assert isinstance(events[0], Plan)
    assert isinstance(events[-1], Done)
    file = b"".join(event.data for event in events if isinstance(event, Chunk))
    picture = np.asarray(Image.open(io.BytesIO(file)))
    tiles = [event for event in events if isinstance(event, Tile)]
    assert [tile.sequence for tile in tiles] == list(range(events[0].tile_count))
    pasted = np.zeros_like(picture)
    for tile in tiles:
        pixels = np.frombuffer(tile.data, np.uint8).reshape(tile.height, tile.width, 3)
        pasted[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = pixels
    assert np.array_equal(pasted, picture)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_stream_and_the_unary_call_give_the_same_bytes(client: Client, sample: Path) -> None:
    chunks = [e.data for e in client.upscale_stream(sample, model=FAST) if isinstance(e, Chunk)]
    assert b"".join(chunks) == client.upscale(sample, model=FAST).data


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (160, 96)),
        ({"scale": 4}, (160, 96)),
        ({"scale": 2}, (80, 48)),
        ({"scale": 2.5}, (100, 60)),
        ({"scale": 0.3}, (12, 7)),
        ({"scale": 6}, (240, 144)),
        ({"scale": 8, "passes": 2}, (320, 192)),
        ({"width": 100}, (100, 60)),
        ({"height": 33}, (55, 33)),
        ({"width": 100, "height": 100}, (100, 60)),
        ({"width": 100, "height": 100, "fit": "cover"}, (100, 100)),
        ({"width": 100, "height": 100, "fit": "stretch"}, (100, 100)),
    ],
)
def test_any_size_asked_for_is_the_size_that_comes(
    client: Client, options: dict[str, object], size: tuple[int, int]
) -> None:
    result = client.upscale(_png(_scene(40, 24)), model=FAST, **options)  # type: ignore[arg-type]
    assert Image.open(io.BytesIO(result.data)).size == size == (result.width, result.height)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (2, 3), (31, 17)])
def test_any_input_from_one_pixel_up_is_taken(client: Client, size: tuple[int, int]) -> None:
    result = client.upscale(_png(_scene(*size)), model=FAST)
    assert (result.width, result.height) == (size[0] * 4, size[1] * 4)


@pytest.mark.parametrize(
    ("mode", "format", "out_mode"),
    [
        ("RGB", "PNG", "RGB"),
        ("RGB", "JPEG", "RGB"),
        ("RGB", "WEBP", "RGB"),
        ("RGB", "TIFF", "RGB"),
        ("RGB", "BMP", "RGB"),
        ("RGB", "GIF", "RGB"),
        ("L", "PNG", "L"),
        ("L", "JPEG", "L"),
        ("LA", "PNG", "LA"),
        ("RGBA", "PNG", "RGBA"),
        ("P", "PNG", "RGB"),
        ("CMYK", "JPEG", "RGB"),
        ("CMYK", "TIFF", "RGB"),
        ("1", "PNG", "L"),
    ],
)
def test_every_mode_comes_out_as_what_it_was(client: Client, mode: str, format: str, out_mode: str) -> None:
    source = _scene(24, 16).convert(mode)
    result = client.upscale(_png(source, format), model=FAST)
    picture = Image.open(io.BytesIO(result.data))
    assert (picture.mode, picture.size) == (out_mode, (96, 64))
    before = np.asarray(source.convert("RGB").resize((8, 8), Image.Resampling.BOX), float)
    after = np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BOX), float)
    assert np.abs(before - after).mean() < 14


def test_alpha_is_kept_and_enlarged(client: Client) -> None:
    source = _scene(24, 16, "RGBA")
    alpha = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (16, 1))
    source.putalpha(Image.fromarray(alpha))
    picture = Image.open(io.BytesIO(client.upscale(_png(source), model=FAST).data))
    small = np.asarray(picture.getchannel("A").resize((24, 16), Image.Resampling.BOX), float)
    assert np.abs(small - alpha).max() < 8


def test_transparent_input_is_laid_over_white_for_jpeg(client: Client) -> None:
    source = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture = Image.open(io.BytesIO(client.upscale(_png(source), model=FAST, format="jpeg").data))
    assert picture.mode == "RGB"
    assert np.asarray(picture).min() > 235


def test_sixteen_bit_grey_stays_sixteen_bit_grey(client: Client) -> None:
    values = np.add.outer(np.arange(16) * 2500, np.arange(32) * 800).astype(np.uint16)
    result = client.upscale(_png(Image.fromarray(values)), model=FAST)
    picture = Image.open(io.BytesIO(result.data))
    assert (picture.mode, picture.size, result.plan.bit_depth) == ("I;16", (128, 64), 16)
    small = np.asarray(picture).astype(float).reshape(16, 4, 32, 4).mean((1, 3))
    assert np.abs(small - values).mean() < 3000
    assert len(np.unique(np.asarray(picture))) > 2000


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_is_applied_once(client: Client, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = _scene(32, 16)
    result = client.upscale(_png(source, "JPEG", exif=exif, quality=95), model=FAST)
    picture = Image.open(io.BytesIO(result.data))
    turned = source.rotate({3: 180, 6: 270, 8: 90}[orientation], expand=True)
    assert picture.size == (turned.width * 4, turned.height * 4)
    assert picture.getexif().get(0x0112, 1) == 1
    small = np.asarray(picture.convert("RGB").resize(turned.size, Image.Resampling.BOX), float)
    wrong = [turned.rotate(180), turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    error = np.abs(small - np.asarray(turned, float)).mean()
    assert all(error < np.abs(small - np.asarray(other, float)).mean() / 2 for other in wrong)


@pytest.mark.parametrize(("format", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_output_is_in_the_format_asked_for(client: Client, format: str, kind: str) -> None:
    result = client.upscale(_png(_scene(40, 30)), model=FAST, format=format)  # type: ignore[arg-type]
    assert Image.open(io.BytesIO(result.data)).format == kind
    assert result.content_type == f"image/{format}"


def test_lossless_webp_has_the_pixels_of_the_png(client: Client) -> None:
    source = _png(_scene(40, 30))
    png = np.asarray(Image.open(io.BytesIO(client.upscale(source, model=FAST).data)))
    webp = client.upscale(source, model=FAST, format="webp", lossless=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(webp.data))), png)


def test_an_animation_gives_its_first_frame_and_says_so(client: Client) -> None:
    frames = [_scene(20, 20), _scene(20, 20).rotate(90)]
    data = _png(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert any("first frame" in warning for warning in client.upscale(data, model=FAST).warnings)


def test_validate_only_answers_with_the_plan_and_makes_nothing(client: Client) -> None:
    result = client.upscale(_png(_scene(1000, 800)), validate_only=True)
    assert result.outputs == ()
    assert (result.plan.output_width, result.plan.output_height) == (4000, 3200)
    assert result.plan.estimated_seconds > 10


def test_the_settings_that_were_used_are_echoed(client: Client) -> None:
    result = client.upscale(
        _png(_scene(8, 8)),
        model="realesr-animevideov3",
        labels={"ticket": "41"},
        request_id="abc",
        format="jpeg",
    )
    assert (result.settings.model, result.settings.quality, result.settings.format) == (FAST, 90, "jpeg")
    assert dict(result.settings.labels) == {"ticket": "41"}
    assert result.request_id == "abc"
