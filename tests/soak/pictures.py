"""The images of the mixed soak: good ones of every kind, and files that people and attackers send."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from tests.conftest import REPO
from tests.fuzz import seeds
from tests.fuzz.mutation import mutated
from tests.integration.media.test_decode_corpus import ACCEPTED_HERE

_CORPUS = REPO.parent / "shared" / "corpus"
_SIDES = (4, 9, 16, 31, 48, 77, 120)
_FORMS = (
    *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "P")),
    *(("JPEG", mode) for mode in ("RGB", "L")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ("TIFF", "RGB"),
    ("BMP", "RGB"),
    ("GIF", "P"),
)
_MUTATIONS = 400


@dataclass(frozen=True, slots=True)
class Picture:
    """A good image, as a file."""

    name: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that is bad or odd. `refused`: it has to be."""

    name: str
    data: bytes
    refused: bool


@cache
def good() -> Sequence[Picture]:
    """Every format and mode, sides of 4 to 120 pixels."""
    chance = np.random.default_rng(11)
    found = []
    for number, (form, mode) in enumerate(_FORMS):
        for each in range(4):
            width, height = (_SIDES[(number * 3 + each * step) % len(_SIDES)] for step in (2, 3))
            found.append(_picture(chance, form, mode, width, height))
    return found


def noise(width: int, height: int) -> Picture:
    """What compresses badly: its output is more than a connection holds."""
    return _picture(np.random.default_rng(3), "PNG", "RGB", width, height)


def _picture(chance: np.random.Generator, form: str, mode: str, width: int, height: int) -> Picture:
    pixels = chance.integers(0, 256, (height, width, 4), np.uint8)
    image = Image.fromarray(pixels)
    if mode != "RGBA":
        image = image.convert("RGB").quantize(64) if mode == "P" else image.convert(mode)
    out = io.BytesIO()
    image.save(out, form)
    return Picture(f"{form} {mode} {width}x{height}", out.getvalue(), width, height)


@cache
def hostile() -> Sequence[Hostile]:
    """The bad and odd files of the corpus where it is there; and everywhere mutations of good files, of
    which nobody knows whether they are still good."""
    chance, base = random.Random(12), seeds.made()
    found = [
        Hostile(f"mutation {number}", mutated(chance.choice(base), base, chance), refused=False)
        for number in range(_MUTATIONS)
    ]
    if _CORPUS.is_dir():
        with (_CORPUS / "manifest.tsv").open() as manifest:
            rows = [row for row in csv.DictReader(manifest, delimiter="\t") if row["class"] != "good"]
        for row in rows:
            refused = row["expect"] == "refuse" and row["file"] not in ACCEPTED_HERE
            data = (_CORPUS / row["class"] / row["file"]).read_bytes()
            found.append(Hostile(row["file"], data, refused))
    return found
