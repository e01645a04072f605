"""The table of `docs/exactness.md`, from the JSON that a benchmark saved and somebody committed.

    python scripts/render_exactness.py

Reads `docs/benchmarks/halos.json`, which `python -m tests.benchmarks.halos` wrote, and replaces what stands
between the page's two marks. A test checks that the page is what the JSON gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upscaled_server.engine.catalogue import MODELS

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "exactness.md"
MEASURED = REPO / "docs" / "benchmarks" / "halos.json"
BEGIN, END = "<!-- halos, by scripts/render_exactness.py -->\n", "<!-- end of halos -->"


def rendered(page: str) -> str:
    """The page with its table anew."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError("docs/exactness.md has no marks for halos")
    return f"{before}{BEGIN}\n{table(json.loads(MEASURED.read_text()))}\n\n{END}{after}"


def table(report: dict[str, Any]) -> str:
    models = [spec for spec in MODELS if spec.name in report["models"]]
    models.sort(key=lambda spec: spec.architecture.receptive_field)
    measured = [report["models"][spec.name] for spec in models]
    lines = [
        _row("context", [f"`{spec.name}`" for spec in models]),
        _row("---", ["--:"] * len(models)),
        *(_row(str(halo), [_cell(worst(photos, halo)) for photos in measured]) for halo in report["halos"]),
        _row("a pixel can see", [str(spec.architecture.receptive_field) for spec in models]),
        _row("tiles of the server have", [str(spec.halo) for spec in models]),
        _row("photographs", [str(len(photos)) for photos in measured]),
    ]
    return "\n".join([*lines, "", _made(report)])


def worst(photos: dict[str, Any], halo: int) -> dict[str, Any]:
    """Over photographs: the least PSNR (None: no value differs in any), the largest error and share."""
    found = [photo["halos"][str(halo)] for photo in photos.values()]
    return {
        "psnr": min((each["psnr"] for each in found if each["psnr"] is not None), default=None),
        "largest": max(each["largest"] for each in found),
        "share": max(each["share"] for each in found),
    }


def _cell(found: dict[str, Any]) -> str:
    if found["psnr"] is None:
        return "exact"
    return f"{found['psnr']:.1f} dB / {found['largest']} / {found['share']:.0e}"


def _row(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _made(report: dict[str, Any]) -> str:
    entries = [photo for photos in report["models"].values() for photo in photos.values()]
    commits = sorted({f"`{each['commit'][:12]}`" + " (changed)" * each["changed"] for each in entries})
    versions = sorted({f"{name} {number}" for each in entries for name, number in each["versions"].items()})
    names = sorted({name for photos in report["models"].values() for name in photos})
    return (
        f"The middle {report['side']}x{report['side']} of {', '.join(f'`{name}`' for name in names)}; "
        f"at commit {', '.join(commits)}, {', '.join(versions)}."
    )


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
