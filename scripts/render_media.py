"""The measured parts of `docs/media.md`, from JSON that benchmarks saved and somebody committed.

    python scripts/render_media.py [--check]

Reads `docs/benchmarks/{colours,png,first_byte-jpeg,first_byte-png}.json`, which `make bench` and `make
bench-media` wrote, and replaces what stands between a part's two marks. A test checks that the page is what
the JSON gives.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pages import REPO, with_parts, write_or_check

PAGE = REPO / "docs" / "media.md"
MEASURED = REPO / "docs" / "benchmarks"


def rendered(page: str) -> str:
    """The page with its measured parts anew."""
    parts = {"colours": _colours(), "png": _png(), "memory": _memory()}
    return with_parts(page, parts, "render_media.py")


def _read(name: str) -> Any:
    return json.loads((MEASURED / f"{name}.json").read_text())


def _colours() -> str:
    found = _read("colours")
    lines = ["| image | network alone | answer | answer with `keep_colors` |", "| --- | --: | --: | --: |"]
    for name, shifts in found["shifts"].items():
        cells = [f"{max(map(abs, shifts[each])):.2f}" for each in ("network", "answer", "keep_colors")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _png() -> str:
    found = _read("png")
    base, side = found["pillow"], found["side"]
    lines = [
        f"A picture of {side}x{side}, made of {len(found['images'])} photographs enlarged by "
        f"`{found['model']}`, on {found['cores']} cores. Pillow with its defaults: {base['seconds']:.1f} s, "
        f"{base['bytes'] / 1e6:.1f} MB.",
        "",
        "| `compression`, threads | seconds | of Pillow's time | of Pillow's size | read back |",
        "| --- | --: | --: | --: | --- |",
    ]
    for name, each in found["ours"].items():
        readers = each["readers"]
        said = "; ".join(f"{reader}: {verdict}" for reader, verdict in readers.items())
        title = name.replace(" 1 threads", " 1 thread")
        lines.append(
            f"| {title} | {each['seconds']:.2f} | {each['time']:.2f} | {each['size']:.2f} | {said} |"
        )
    return "\n".join(lines)


def _memory() -> str:
    lines = [
        "| input | first byte | of all the time | server's peak, all processes | that of double the height |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name in ("jpeg", "png"):
        found = _read(f"first_byte-{name}")
        low, high = found["runs"]
        width, height = low["input"]
        peaks = [run["server_bytes"]["peak"] / 1e6 for run in (low, high)]
        lines.append(
            f"| {name.upper()}, {width}x{height} | {low['seconds']['first_byte']:.1f} s "
            f"| {low['first_byte_share']:.1%} | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB "
            f"({found['memory_growth']:+.1%}) |"
        )
    return "\n".join(lines)


def main() -> int:
    return write_or_check(__doc__, {PAGE: rendered(PAGE.read_text())})


if __name__ == "__main__":
    sys.exit(main())
