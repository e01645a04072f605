"""What mutations begin with: the corpus of real and hostile files where it is there, else small files made
here."""

from __future__ import annotations

import csv
import io

import numpy as np
from PIL import Image

from tests.conftest import REPO

_CORPUS = REPO.parent / "shared" / "corpus"
_LARGEST_BYTES = 64 << 10


def images() -> list[bytes]:
    """Small image files of every format that is accepted, and of some that are not."""
    found = made()
    if _CORPUS.is_dir():
        for path in sorted(_CORPUS.glob("*/*")):
            if path.stat().st_size <= _LARGEST_BYTES:
                found.append(path.read_bytes())
    return found


def urls() -> list[str]:
    """URLs that must be refused, and some that need not be."""
    found = [
        "http://example.com/a.png",
        "https://93.184.216.34:443/x?y#z",
        "http://[2606:4700::1]/a%20b",
        "http://user:pass@10.0.0.1:80/",
        "http://0x7f.1/",
    ]
    path = _CORPUS / "ssrf_cases.tsv"
    if path.is_file():
        with path.open(newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            found += [row["url"].replace("{PUBLIC}", "http://public.test") for row in rows]
    return found


def made() -> list[bytes]:
    """One small image in each format, in several modes."""
    noise = np.random.default_rng(1).integers(0, 256, (13, 17, 4), np.uint8)
    colour, clear = Image.fromarray(noise[..., :3]), Image.fromarray(noise)
    ways = [
        ("PNG", colour, {}),
        ("PNG", clear, {}),
        ("PNG", colour.quantize(8), {"bits": 4}),
        ("JPEG", colour, {}),
        ("JPEG", colour.convert("CMYK"), {}),
        ("JPEG", colour, {"progressive": True, "exif": _exif()}),
        ("WEBP", clear, {"exif": _exif()}),
        ("WEBP", clear, {"lossless": True}),
        ("TIFF", colour, {"compression": "tiff_lzw"}),
        ("TIFF", clear, {}),
        ("BMP", colour, {}),
        ("GIF", colour.quantize(16), {}),
        ("PPM", colour, {}),
        ("AVIF", colour, {}),
    ]
    return [_encoded(image, form, options) for form, image, options in ways]


def _encoded(image: Image.Image, form: str, options: dict[str, object]) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    exif.get_ifd(0x8769)[0xA002] = 17
    exif.get_ifd(0x8825)[2] = (41.0, 22.0, 48.0)
    return exif.tobytes()
