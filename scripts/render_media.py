"""The measured parts of `docs/media.md`, from JSON that benchmarks saved and somebody committed.

    python scripts/render_media.py [--check]

Reads `docs/benchmarks/{colours,png,first_byte-jpeg,first_byte-png}.json`, which `make bench` and `make
bench-media` wrote, and replaces what stands between a part's two marks. A test checks that the page is what
the JSON gives.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "media.md"
MEASURED = REPO / "docs" / "benchmarks"


def rendered(page: str) -> str:
    """The page with its measured parts anew."""
    parts = {"colours": _colours(), "png": _png(), "memory": _memory()}
    for name, text in parts.items():
        begin, end = f"<!-- {name}, by scripts/render_media.py -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"docs/media.md has no marks for {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


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
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args()
    expected = rendered(PAGE.read_text())
    if expected == PAGE.read_text():
        return 0
    if options.check:
        print(f"{PAGE.relative_to(REPO)} is not what the JSON gives: make docs", file=sys.stderr)
        return 1
    PAGE.write_text(expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
