"""The measured and computed parts of `docs/exactness.md`, from JSON that benchmarks saved, and from the code.

    python scripts/render_exactness.py [--check]

Reads `docs/benchmarks/halos.json`, which `python -m tests.benchmarks.halos` wrote, and `peers.json` of `make
bench`, asks the planner for the sizes of images that end with their worker, and replaces what stands between
a part's two marks. A test checks that the page is what these give.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pages import REPO, with_parts, write_or_check

from upscaled_server.engine.architectures import Compact
from upscaled_server.engine.catalogue import MODELS, ModelSpec
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.planning import plan_image
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pool.replay import MAX_KEPT_BYTES, kept_bytes

PAGE = REPO / "docs" / "exactness.md"
MEASURED = REPO / "docs" / "benchmarks" / "halos.json"
# An ordinary machine, to plan for; JPEG's limit; and the server's.
_KEPT_CORES, _KEPT_BUDGET, _WIDEST = 2, 8 << 30, 65_500
_INPUT: int = LimitSettings.model_fields["max_input_pixels"].default
PEERS = REPO / "docs" / "benchmarks" / "peers.json"


def rendered(page: str) -> str:
    """The page with its measured parts anew. Raises ValueError where it lacks the marks of one."""
    parts = {
        "halos": table(json.loads(MEASURED.read_text())),
        "peers": off(json.loads(PEERS.read_text())),
        "kept": kept(),
    }
    return with_parts(page, parts, "render_exactness.py")


def off(report: dict[str, Any]) -> str:
    """How many values the engine had off in the comparison with others, by family."""
    compact = {spec.name for spec in MODELS if isinstance(spec.architecture, Compact)}
    cases = [(case["model"] in compact, case["results"]["engine"]["accuracy"]) for case in report["cases"]]
    return (
        f"On the photograph of the [benchmarks](benchmarks.md), of 100,000 values "
        f"{_between([found['share'] for small, found in cases if small])} were off with the compact networks "
        f"and {_between([found['share'] for small, found in cases if not small])} with the RRDB\n"
        f"networks, none of them by more than {max(found['largest'] for _, found in cases)}."
    )


def _between(shares: list[float]) -> str:
    return f"{min(shares) * 1e5:.1f} to {max(shares) * 1e5:.1f}"


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


def kept() -> str:
    """From which sizes on a run would have to keep too much of its input to be begun again."""
    whole = MAX_KEPT_BYTES // 3
    rows = [
        _row(f"`{spec.name}`", [_from(too_large(spec, in_bytes), in_bytes) for in_bytes in (1, 2)])
        for spec in MODELS
    ]
    return "\n".join(
        [
            f"{MAX_KEPT_BYTES >> 20} MiB of input are kept: all of an image of {whole / 1e6:.0f} megapixels "
            f"with 8 bits, or of {whole / 2e6:.0f} with 16. Of larger ones only what the rows that are still",
            "missing depend on, and that is too much for images about as wide and as high as this, or more "
            f"(CPU, {_KEPT_CORES} cores, {_KEPT_BUDGET >> 30} GiB for runs; inputs of {_INPUT / 1e6:.0f} "
            "megapixels, the default's most):",
            "",
            "| model | 8 bits | 16 bits |",
            "| --- | --- | --- |",
            *rows,
        ]
    )


def too_large(spec: ModelSpec, in_bytes: int) -> int | None:
    """How wide the narrowest image is, of those with as many pixels as a server takes by default, whose run
    would have to keep too much; None where there is none."""
    device = choose_device("cpu", "ncnn", parallel=_KEPT_CORES, budget_bytes=_KEPT_BUDGET)

    def too_much(width: int) -> bool:
        plan = plan_image(
            spec, device, width, _INPUT // width, budget_bytes=device.budget_bytes, parallel=device.parallel
        )
        return kept_bytes(plan, in_bytes=in_bytes) == MAX_KEPT_BYTES

    coarse = next((width for width in range(1_000, _WIDEST, 1_000) if too_much(width)), None)
    if coarse is None:
        return None
    return next(width for width in range(coarse - 900, coarse + 1, 100) if too_much(width))


def _from(width: int | None, in_bytes: int) -> str:
    """A width, and how high an image must be for that many bytes."""
    if width is None:
        return "none"
    return f"{width:,} x {round(MAX_KEPT_BYTES / (3 * in_bytes * width) / 10) * 10:,}"


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


def main() -> int:
    return write_or_check(__doc__, {PAGE: rendered(PAGE.read_text())})


if __name__ == "__main__":
    sys.exit(main())
