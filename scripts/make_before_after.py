"""Put parts of the sample beside their upscaled selves: docs/before-after.png, from what `make demo` made."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULT = DOCS.parent / "demo-output" / "sample_x4.png"
BOXES = ((195, 5, 265, 85), (40, 105, 110, 185))
GAP = 6


def main() -> None:
    before, after = Image.open(DOCS / "sample.png").convert("RGB"), Image.open(RESULT)
    factor = after.width // before.width
    pairs = []
    for box in BOXES:
        crop = before.crop(box)
        size = (crop.width * factor, crop.height * factor)
        pairs.append(crop.resize(size, Image.Resampling.BICUBIC))
        pairs.append(after.crop(tuple(edge * factor for edge in box)))
    width = sum(part.width for part in pairs) + GAP * (len(pairs) - 1)
    sheet = Image.new("RGB", (width, max(part.height for part in pairs)), "white")
    x = 0
    for part in pairs:
        sheet.paste(part, (x, 0))
        x += part.width + GAP
    sheet.save(DOCS / "before-after.png", optimize=True)


if __name__ == "__main__":
    main()
