"""The tables of docs/media.md: every row is made of a real photograph and goes through a server."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from tests.conftest import REPO
from tests.e2e.conftest import running_server

from upscaled import Client, LimitExceededError, Result

FAST = "real-esrgan-animevideo-v3"
PAGE = (REPO / "docs" / "media.md").read_text()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IPTC = b"\x1c\x02\x05\0\x05Title"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a exif:PixelXDimension='48'/></x:xmpmeta>"


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by the names of its columns."""
    lines = PAGE.split(f"## {heading}\n")[1].splitlines()
    cells = [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")]
        for line in lines[next(i for i, line in enumerate(lines) if line.startswith("|")) :]
    ]
    end = next((index for index, row in enumerate(cells) if len(row) == 1), len(cells))
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:end]]


IN = table("What comes in, what comes out")
OUT = table("What a file keeps")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_server() as server, Client(server.address, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def photograph(shared_images: Path) -> Image.Image:
    """48x40 pixels of leaves and sky."""
    return (
        Image.open(shared_images / "OST_009.png").convert("RGB").crop((150, 200, 342, 360)).resize((48, 40))
    )


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    """A soft edge from transparent on the left to opaque on the right."""
    found = image.convert("RGBA")
    found.putalpha(
        Image.fromarray(np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1)))
    )
    return found


def wide(image: Image.Image) -> NDArray[np.uint16]:
    """16 bits, with something in the lower eight."""
    values = np.asarray(image, np.uint16)
    values = values.reshape(*values.shape[:2], -1) * 257
    noise = np.random.default_rng(1).integers(-100, 100, values.shape)
    return np.clip(values + noise, 0, 65535).astype(np.uint16)


def png_16(image: Image.Image) -> bytes:
    values = wide(image)
    height, width, planes = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[planes], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def interlaced(image: Image.Image) -> bytes:
    """Adam7, which Pillow does not write."""
    values = np.asarray(image)
    height, width, _ = values.shape
    grid = ["0088", "0488", "4084", "0244", "2042", "0122", "1021"]
    parts = [values[int(y) :: int(dy), int(x) :: int(dx)] for y, x, dy, dx in grid]
    lines = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff_16(image: Image.Image) -> bytes:
    values = wide(image)
    height, width, planes = values.shape
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, planes, 0), (259, 3, 1, 1),
        (262, 3, 1, 2 if planes > 2 else 1), (273, 4, 1, 0), (277, 3, 1, planes), (278, 4, 1, height),
        (279, 4, 1, values.nbytes), *([(338, 3, 1, 2)] if planes in (2, 4) else []),
    ]  # fmt: skip
    bits_at = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"<{planes}H", *[16] * planes)
    inline = int.from_bytes(bits, "little") if planes <= 2 else bits_at
    place = {258: inline, 273: bits_at + len(bits)}
    directory = b"".join(struct.pack("<HHII", t, k, n, place.get(t, v)) for t, k, n, v in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4) + bits + values.tobytes()


def ppm_16(image: Image.Image) -> bytes:
    values = wide(image)
    kind = b"P6" if values.shape[2] == 3 else b"P5"
    return b"%s\n%d %d\n65535\n" % (kind, image.width, image.height) + values.astype(">u2").tobytes()


def animated(image: Image.Image, format: str, **options: Any) -> bytes:
    return saved(image, format, save_all=True, append_images=[image.rotate(180)], **options)


def lab(image: Image.Image) -> Image.Image:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    found = ImageCms.applyTransform(image, to_lab)
    assert found is not None
    return found


def heic(image: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    pillow_heif.register_heif_opener()
    return saved(image, "HEIF", quality=95)


def heic_10(image: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    buffer = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=wide(image).tobytes()).save(
        buffer, quality=-1, matrix_coefficients=0, chroma=444
    )
    return buffer.getvalue()


Made = tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], Image.Image]]


def rgb(image: Image.Image) -> Image.Image:
    return image


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def black_and_white(image: Image.Image) -> Image.Image:
    return image.convert("1").convert("L")


def grey_alpha(image: Image.Image) -> Image.Image:
    return with_alpha(image).convert("LA")


def palette(image: Image.Image) -> Image.Image:
    return image.quantize(64)


def as_rgb(image: Image.Image) -> Image.Image:
    return palette(image).convert("RGB")


def as_rgba(image: Image.Image) -> Image.Image:
    return image.convert("RGBA")


# How each row's file is made of a photograph, and what it shows.
FILES: dict[tuple[str, str], Made] = {
    ("PNG", "1-bit"): (lambda i: saved(i.convert("1"), "PNG"), black_and_white),
    ("PNG", "grey 8"): (lambda i: saved(grey(i), "PNG"), grey),
    ("PNG", "grey 16"): (lambda i: png_16(grey(i)), grey),
    ("PNG", "grey with alpha 8"): (lambda i: saved(grey_alpha(i), "PNG"), grey_alpha),
    ("PNG", "grey with alpha 16"): (lambda i: png_16(grey_alpha(i)), grey_alpha),
    ("PNG", "palette"): (lambda i: saved(palette(i), "PNG"), as_rgb),
    ("PNG", "palette of greys"): (lambda i: saved(palette(grey(i)), "PNG"), grey),
    ("PNG", "palette with transparency"): (lambda i: saved(palette(i), "PNG", transparency=3), as_rgba),
    ("PNG", "RGB 8"): (lambda i: saved(i, "PNG"), rgb),
    ("PNG", "RGB 8, interlaced"): (interlaced, rgb),
    ("PNG", "RGB with a transparent colour"): (
        lambda i: saved(i, "PNG", transparency=i.getpixel((0, 0))),
        as_rgba,
    ),
    ("PNG", "RGBA 8"): (lambda i: saved(with_alpha(i), "PNG"), with_alpha),
    ("PNG", "RGB 16"): (png_16, rgb),
    ("PNG", "RGBA 16"): (lambda i: png_16(with_alpha(i)), with_alpha),
    ("PNG", "animated (APNG)"): (lambda i: animated(i, "PNG"), rgb),
    ("JPEG", "grey"): (lambda i: saved(grey(i), "JPEG", quality=95), grey),
    ("JPEG", "RGB"): (lambda i: saved(i, "JPEG", quality=95), rgb),
    ("JPEG", "progressive"): (lambda i: saved(i, "JPEG", quality=95, progressive=True), rgb),
    ("JPEG", "CMYK"): (lambda i: saved(i.convert("CMYK"), "JPEG", quality=95), rgb),
    ("JPEG", "multi-picture (MPO)"): (lambda i: animated(i, "MPO", quality=95), rgb),
    ("WebP", "lossy"): (lambda i: saved(i, "WEBP", quality=95), rgb),
    ("WebP", "lossless with alpha"): (lambda i: saved(with_alpha(i), "WEBP", lossless=True), with_alpha),
    ("WebP", "animated"): (lambda i: animated(i, "WEBP", lossless=True), rgb),
    ("TIFF", "1-bit"): (lambda i: saved(i.convert("1"), "TIFF"), black_and_white),
    ("TIFF", "grey 8"): (lambda i: saved(grey(i), "TIFF"), grey),
    ("TIFF", "grey 16"): (lambda i: tiff_16(grey(i)), grey),
    ("TIFF", "grey with alpha 16"): (lambda i: tiff_16(grey_alpha(i)), grey_alpha),
    ("TIFF", "palette"): (lambda i: saved(palette(i), "TIFF"), as_rgb),
    ("TIFF", "RGB 8, LZW"): (lambda i: saved(i, "TIFF", compression="tiff_lzw"), rgb),
    ("TIFF", "RGBA 8"): (lambda i: saved(with_alpha(i), "TIFF"), with_alpha),
    ("TIFF", "RGB 16"): (tiff_16, rgb),
    ("TIFF", "RGBA 16"): (lambda i: tiff_16(with_alpha(i)), with_alpha),
    ("TIFF", "CMYK"): (lambda i: saved(i.convert("CMYK"), "TIFF"), rgb),
    ("TIFF", "L*a*b*"): (lambda i: saved(lab(i), "TIFF"), rgb),
    ("TIFF", "several pages"): (lambda i: animated(i, "TIFF"), rgb),
    ("BMP", "1-bit"): (lambda i: saved(i.convert("1"), "BMP"), black_and_white),
    ("BMP", "palette"): (lambda i: saved(palette(i), "BMP"), as_rgb),
    ("BMP", "RGB"): (lambda i: saved(i, "BMP"), rgb),
    ("GIF", "palette"): (lambda i: saved(palette(i), "GIF"), as_rgb),
    ("GIF", "greys"): (lambda i: saved(grey(i), "GIF"), grey),
    ("GIF", "transparent"): (lambda i: saved(palette(i), "GIF", transparency=3), as_rgba),
    ("GIF", "animated"): (lambda i: animated(palette(i), "GIF"), as_rgb),
    ("AVIF", "grey"): (lambda i: saved(grey(i), "AVIF", quality=95), grey),
    ("AVIF", "RGB"): (lambda i: saved(i, "AVIF", quality=95), rgb),
    ("AVIF", "RGBA"): (lambda i: saved(with_alpha(i), "AVIF", quality=95), with_alpha),
    ("HEIC", "RGB"): (heic, rgb),
    ("HEIC", "RGB, 10 bits"): (heic_10, rgb),
    ("PPM", "1-bit (PBM)"): (lambda i: saved(i.convert("1"), "PPM"), black_and_white),
    ("PPM", "grey 8 (PGM)"): (lambda i: saved(grey(i), "PPM"), grey),
    ("PPM", "grey 16 (PGM)"): (lambda i: ppm_16(grey(i)), grey),
    ("PPM", "RGB 8"): (lambda i: saved(i, "PPM"), rgb),
    ("PPM", "RGB 16"): (ppm_16, rgb),
}
CHANNELS = {"grey": 1, "grey with alpha": 2, "RGB": 3, "RGBA": 4}


def test_every_row_has_a_file_and_every_file_a_row() -> None:
    assert [(row["Format"], row["In"]) for row in IN] == list(FILES)


def shape(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits and channels, from a PNG's own header."""
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    return width, height, bits, {0: 1, 2: 3, 4: 2, 6: 4}[colour]


@pytest.mark.parametrize("row", IN, ids=lambda row: f"{row['Format']}, {row['In']}")
def test_what_comes_in_comes_out_as_the_table_says(
    client: Client, photograph: Image.Image, row: dict[str, str]
) -> None:
    make, show = FILES[row["Format"], row["In"]]
    channels, _, bits = row["Comes out"].rpartition(" ")
    result = client.upscale(make(photograph), model=FAST)
    assert shape(result.data) == (192, 160, int(bits), CHANNELS[channels])
    assert (result.plan.bit_depth, result.plan.channels) == (int(bits), CHANNELS[channels])
    is_first_of_many = "first" in row["Remarks"]
    assert any("first frame" in warning for warning in result.warnings) == is_first_of_many
    expected, found = over_grey(show(photograph)), over_grey(Image.open(io.BytesIO(result.data)))
    assert np.abs(expected - found).mean() < (26 if "1-bit" in row["In"] else 9)
    # Dithered pixels are noise to a network, which makes of it what it likes.
    assert np.abs((found - expected).mean(axis=(0, 1))).max() < (12 if "1-bit" in row["In"] else 4)
    if bits == "16":
        assert deep_values(result.data) > 1000


def over_grey(image: Image.Image) -> NDArray[np.float64]:
    """24x20 pixels, as they look on middle grey."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    rgba = np.asarray(image.convert("RGBA"), float)
    alpha = rgba[..., 3:] / 255
    seen = rgba[..., :3] * alpha + 128 * (1 - alpha)
    steps = (seen.shape[0] // 20, seen.shape[1] // 24)
    blocks: NDArray[np.float64] = seen.reshape(20, steps[0], 24, steps[1], 3).mean((1, 3))
    return blocks


def deep_values(png: bytes) -> int:
    """How many different pairs of bytes the lines of a 16-bit PNG hold, filtered as they are."""
    at, packed = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += 12 + length
    lines = zlib.decompress(packed)
    return len(np.unique(np.frombuffer(lines, ">u2", len(lines) // 2)))


OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"format": "jpeg"},
    "JPEG, progressive": {"format": "jpeg", "progressive": True},
    "WebP": {"format": "webp"},
    "TIFF": {"format": "tiff"},
    "TIFF, `COMPRESSION_SMALL`": {"format": "tiff", "compression": "small"},
    "AVIF": {"format": "avif"},
}


def tagged(image: Image.Image) -> bytes:
    """A JPEG with everything a camera and an editor put beside the pixels."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    exif.get_ifd(0x8769).update({0xA002: 48, 0xA003: 40, 0x927C: b"note 41.38N"})
    exif.get_ifd(0x8825).update({1: "N", 2: (41.0, 22.0, 48.0), 3: "E", 4: (2.0, 10.0, 37.0)})
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    segment = b"Photoshop 3.0\0" + resource
    return saved(
        image.rotate(90, expand=True), "JPEG", quality=95, exif=exif, icc_profile=SRGB, dpi=(300, 300),
        xmp=XMP[:-12] + b"<exif:GPSLatitude>41,22.8N</exif:GPSLatitude>" + XMP[-12:],
        extra=b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment, comment=b"CORPUS",
    )  # fmt: skip


def test_every_output_of_the_table_is_tried() -> None:
    assert [row["Out"] for row in OUT] == list(OPTIONS)


@pytest.fixture(scope="module")
def kept(client: Client, photograph: Image.Image) -> Callable[..., tuple[Result, Any]]:
    def kept(name: str, **options: Any) -> tuple[Result, Any]:
        result = client.upscale(tagged(photograph), model=FAST, **OPTIONS[name], **options)
        return result, Image.open(io.BytesIO(result.data))

    return kept


def iptc_of(image: Any) -> bytes | None:
    if image.format == "JPEG":
        return image.info.get("photoshop", {}).get(0x0404)
    if image.format == "TIFF":
        return image.tag_v2.get(33723)
    text = image.info.get("Raw profile type iptc")
    return None if text is None else bytes.fromhex("".join(text.split("\n")[3:]))


@pytest.mark.parametrize("row", OUT, ids=lambda row: row["Out"])
def test_what_the_table_says_is_kept(kept: Callable[..., Any], row: dict[str, str]) -> None:
    result, image = kept(row["Out"])
    assert image.size == (192, 160)
    assert (image.info.get("icc_profile") == SRGB) == (row["Profile"] == "yes")
    exif = image.getexif()
    assert (exif.get(0x010F) == "Camera") == (row["EXIF"] == "yes")
    assert exif.get(0x0112, 1) == 1
    own, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert (own[0xA002], own[0xA003]) == (192, 160)
    assert [float(part) for part in gps[2]] == [41, 22, 48]
    assert (b"PixelXDimension='192'" in image.info.get("xmp", b"")) == (row["XMP"] == "yes")
    assert (iptc_of(image) == IPTC) == (row["IPTC"] == "yes")
    assert any("IPTC" in warning for warning in result.warnings) == (row["IPTC"] == "-")
    dpi = image.info.get("dpi", (0, 0))
    assert (abs(float(dpi[0]) - 300) < 0.1) == (row["Resolution"] == "yes")


@pytest.mark.parametrize("row", OUT, ids=lambda row: row["Out"])
def test_without_gps_no_trace_of_the_position_is_left(kept: Callable[..., Any], row: dict[str, str]) -> None:
    result, image = kept(row["Out"], metadata="strip_gps")
    exif = image.getexif()
    assert (exif[0x010F], exif.get_ifd(0x8825)) == ("Camera", {})
    assert exif.get_ifd(0x8769)[0xA002] == 192
    assert b"GPS" not in image.info["xmp"]
    assert b"adobe:ns:meta" in image.info["xmp"]
    for trace in (b"41,22.8N", b"41.38N", struct.pack("<II", 41, 1), struct.pack(">II", 41, 1)):
        assert trace not in result.data


@pytest.mark.parametrize("row", OUT, ids=lambda row: row["Out"])
def test_stripped_files_have_the_profile_and_nothing_else(
    kept: Callable[..., Any], row: dict[str, str]
) -> None:
    result, image = kept(row["Out"], metadata="strip")
    assert image.info["icc_profile"] == SRGB
    assert 0x010F not in image.getexif()
    assert b"Camera" not in result.data
    assert b"adobe:ns:meta" not in result.data
    assert iptc_of(image) is None


@pytest.mark.parametrize("row", OUT, ids=lambda row: row["Out"])
def test_channels_and_bits_are_what_the_table_says(
    client: Client, photograph: Image.Image, row: dict[str, str]
) -> None:
    options = OPTIONS[row["Out"]]
    result = client.upscale(png_16(with_alpha(photograph)), model=FAST, **options)
    image = Image.open(io.BytesIO(result.data))
    assert result.plan.bit_depth == (16 if "16" in row["Bits"] else 8)
    assert image.mode == ("RGB" if row["Alpha"] == "over white" else "RGBA")
    grey_result = client.upscale(saved(grey(photograph), "PNG"), model=FAST, **options)
    assert Image.open(io.BytesIO(grey_result.data)).mode == ("RGB" if row["Grey"] == "as RGB" else "L")


@pytest.mark.parametrize(
    "row", [row for row in OUT if len(row["Largest side"]) < 7], ids=lambda row: row["Out"]
)
def test_a_side_beyond_the_largest_is_refused_before_work(client: Client, row: dict[str, str]) -> None:
    largest = int(row["Largest side"])
    thin = saved(Image.new("RGB", (largest // 8, 1)), "PNG")
    options: dict[str, Any] = {"height": 1, "fit": "stretch", **OPTIONS[row["Out"]]}
    assert client.upscale(thin, width=largest, validate_only=True, **options).plan.output_width == largest
    with pytest.raises(LimitExceededError) as caught:
        client.upscale(thin, width=largest + 1, **options)
    assert caught.value.metadata["limit"] == largest
