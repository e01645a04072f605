"""Files that people and attackers send: each behaves as the corpus says it must."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from upscaled_server.errors import DomainError, ImageRejected, LimitExceeded

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Listed there as outside a list of formats that has no PNM and no HEIF; ours has them.
ACCEPTED_HERE = {
    "corkami-mitra__input-heic.heic",
    "python-pillow-Pillow__Tests-images-avif-hopper.heif",
    "thumbor-thumbor__tests-fixtures-images-image.heic",
    "python-pillow-Pillow__Tests-images-hopper.pnm",
    "python-pillow-Pillow__Tests-images-hopper.ppm",
}


@pytest.fixture(scope="module")
def corpus(shared: Path) -> list[tuple[dict[str, str], bytes]]:
    folder = shared / "corpus"
    with (folder / "manifest.tsv").open() as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    return [(row, (folder / row["class"] / row["file"]).read_bytes()) for row in rows]


async def outcome(decode: Callable[..., Any], data: bytes) -> str:
    """ "work", "refuse", or what went wrong on our side."""
    try:
        await decode(data, cut=512)
    except (ImageRejected, LimitExceeded) as refusal:
        return "refuse" if refusal.message.isprintable() else "refuse, with control characters"
    except DomainError as error:
        return repr(error)
    return "work"


@pytest.mark.parametrize("kind", ["bad", "odd", "good"])
async def test_every_file_is_refused_or_works_as_it_should(
    decode: Callable[..., Any], corpus: list[tuple[dict[str, str], bytes]], kind: str
) -> None:
    allowed = {
        "refuse": {"refuse"},
        "work": {"work"},
        "work-or-refuse": {"work", "refuse"},
        "first-frame-or-refuse": {"work", "refuse"},
    }
    wrong = []
    for row, data in corpus:
        if row["class"] != kind or row["file"] in ACCEPTED_HERE:
            continue
        happened = await outcome(decode, data)
        if happened not in allowed[row["expect"]]:
            wrong.append((row["file"], happened, row["why"]))
    assert wrong == []


async def test_images_that_pillow_reads_are_not_refused_but_for_damage(
    decode: Callable[..., Any], corpus: list[tuple[dict[str, str], bytes]]
) -> None:
    refused = []
    for row, data in corpus:
        if row["class"] == "odd" and row["pillow"].startswith("OK"):
            happened = await outcome(decode, data)
            if happened != "work":
                refused.append(row["file"])
    assert sorted(refused) == [
        # What is not explained has pixels that libjpeg warns of.
        "generated__bitflip-pjpg-1.jpg",
        "generated__bitflip-pjpg-2.jpg",
        "google-wuffs__test-3pdata-asset-182.1-byte-change.jpg",
        "image-rs-image-png__tests-bugfixes-x_interlaced_chck.png",  # wrong checksum of its pixels
        "image-rs-jpeg-decoder__fuzz-afl-in-id_000223-src_000000-op_flip2-pos_503-cov.jpg",  # no end marker
        "image-rs-jpeg-decoder__fuzz-afl-in-id_000324-src_000000-op_arith16-pos_227-val_be_-16.jpg",
        "image-rs-jpeg-decoder__tests-crashtest-images-imagetestsuite-4838ece0d3900220d33528ee027289bc.jpg",
        "image-rs-jpeg-decoder__tests-crashtest-images-imagetestsuite-8e5e74dbf9b68a322fbb9512db837329.jpg",
        "image-rs-jpeg-decoder__tests-crashtest-images-imagetestsuite-b55977028a3a574336966b6536640fc9.jpg",
        "image-rs-jpeg-decoder__tests-crashtest-images-imagetestsuite-f6b4389c3cf0f5997b2e5a4b905aea8d.jpg",
        "image-rs-jpeg-decoder__tests-reftest-images-extraneous-data.jpg",
        "image-rs-jpeg-decoder__tests-reftest-images-progressive-missing-dc.jpg",
        "libjpeg-turbo-seed-corpora__afl-testcases-jpeg-full-images-id-002963-src-002488-op-havoc-rep-2.jpg",
        "randy408-libspng__tests-crashers-badcrc.png",  # wrong checksum of its pixels
        "randy408-libspng__tests-crashers-huge_IDAT.png",  # ends within its pixels
    ]


async def test_orientation_is_found_wherever_the_corpus_has_it(
    decode: Callable[..., Any], corpus: list[tuple[dict[str, str], bytes]]
) -> None:
    for row, data in corpus:
        if row["class"] == "odd" and row["orientation"] in ("2", "3", "4", "5", "6", "7", "8"):
            info, _ = await decode(data, cut=512)
            assert (row["file"], info.orientation) == (row["file"], int(row["orientation"]))
