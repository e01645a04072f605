"""What a format cannot hold is said before work starts."""

from __future__ import annotations

import pytest

from upscaled_server.errors import InvalidField, LimitExceeded
from upscaled_server.media.encode import EncodeOptions, check_encodable


@pytest.mark.parametrize(
    ("name", "limit"), [("JPEG", 65500), ("WEBP", 16383), ("PNG", 2**31 - 1), ("AVIF", 32768)]
)
def test_each_format_has_its_longest_side(name: str, limit: int) -> None:
    check_encodable(name, limit, 1)
    check_encodable(name, 1, limit)
    for size in ((limit + 1, 1), (1, limit + 1)):
        with pytest.raises(LimitExceeded) as caught:
            check_encodable(name, *size)
        assert caught.value.field == "options.format"
        assert caught.value.numbers["limit"] == limit
        assert caught.value.numbers["actual"] == limit + 1


@pytest.mark.parametrize("name", ["", "png", "BMP", "x" * 1000])
def test_an_unknown_format_lists_those_that_are(name: str) -> None:
    with pytest.raises(InvalidField, match="PNG, JPEG, WEBP"):
        check_encodable(name, 1, 1)


@pytest.mark.parametrize("quality", [0, -1, 101])
def test_quality_is_1_to_100(quality: int) -> None:
    with pytest.raises(InvalidField) as caught:
        check_encodable("JPEG", 1, 1, options=EncodeOptions(quality=quality))
    assert caught.value.field == "options.quality"


def test_jpeg_has_no_transparency() -> None:
    with pytest.raises(InvalidField, match="transparency"):
        check_encodable("JPEG", 1, 1, has_alpha=True)
    check_encodable("JPEG", 1, 1, has_alpha=True, options=EncodeOptions(flatten_alpha=True))


def test_avif_ends_where_its_readers_do() -> None:
    check_encodable("AVIF", 16384, 16384)
    with pytest.raises(LimitExceeded, match="readers of AVIF") as caught:
        check_encodable("AVIF", 16385, 16384)
    assert caught.value.numbers["unit"] == "megapixels"
    with pytest.raises(InvalidField, match="lossy"):
        check_encodable("AVIF", 1, 1, options=EncodeOptions(lossless=True))


def test_tiff_ends_at_four_gibibytes() -> None:
    check_encodable("TIFF", 20_000, 20_000, has_alpha=True, bits=16)
    with pytest.raises(LimitExceeded, match="4 GiB") as caught:
        check_encodable("TIFF", 40_000, 40_000)
    assert caught.value.numbers["actual"] == 40_000 * 40_000 * 3 >> 20
