"""What a tile's context (halo) is worth: tiles cut out of photographs against the whole, in torch fp32.

    python -m tests.benchmarks.halos FOLDER                    # real photographs, at least 256x256
    python -m tests.benchmarks.halos FOLDER --model real-esrgan-x4-plus --photos 3 --halo 96 --halo 128

Of every photograph the middle is upscaled at once, and then the tile in its centre alone, with ever more
context, which it lacks beyond that on all four sides. One layout (channels-last) on both sides, so that what
differs is the cut's doing. The JSON is written after every halo; what is in it already is left out, so that a
run can be made in parts. `scripts/render_exactness.py` makes the table from it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.cases import COMPACT, REPO, RRDB
from tests.benchmarks.contest.machine import describe
from tests.benchmarks.contest.weights import spec_of, state_of
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.networks.build import build_network
from upscaled_server.tiling.cut import Piece, Span

MODELS = (*COMPACT, *RRDB)
HALOS = (10, 16, 24, 32, 48, 64, 96, 112, 128)
SIDE, TILE = 384, 64
_LEAST_SIDE = 256


def middles(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The middle of every image in the folder that is large enough and hides no pixels: (SIDE, SIDE, 3) RGB.
    Lower and narrower ones are mirrored at their borders."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            continue
        with Image.open(path) as image:
            if image.mode not in ("RGB", "L") or min(image.size) < _LEAST_SIDE:
                continue
            photo = np.asarray(image.convert("RGB"))
        missing = [max(0, SIDE - size) for size in photo.shape[:2]]
        widths = [(each // 2, each - each // 2) for each in missing]
        photo = np.pad(photo, (*widths, (0, 0)), mode="symmetric")
        top, left = ((size - SIDE) // 2 for size in photo.shape[:2])
        found[path.name] = np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])
    return found


def measure(
    model: str, photo: NDArray[np.uint8], halos: list[int]
) -> Iterator[tuple[int, dict[str, float | None]]]:
    """By halo, how far the tile is from the whole: as `compare` says it."""
    spec, state = spec_of(model), state_of(model)
    threads = len(os.sched_getaffinity(0))
    whole = _whole(build_network(spec.architecture, state), photo)
    network = TorchNetwork(state, spec.architecture)
    start, end = (SIDE - TILE) // 2, (SIDE + TILE) // 2
    for halo in halos:
        span = Span(start, end, first=start - halo, last=end + halo, pad=0)
        yield halo, _of_tile(network, photo, Piece(span, span), whole, spec.scale, threads)
    network.close()


def _whole(network: Any, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    tensor = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    network = network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        planes = network(tensor.contiguous(memory_format=torch.channels_last))[0]
    values: NDArray[np.uint8] = (planes.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
    return values


def _of_tile(
    network: TorchNetwork,
    photo: NDArray[np.uint8],
    piece: Piece,
    whole: NDArray[np.uint8],
    scale: int,
    threads: int,
) -> dict[str, float | None]:
    down, across = piece.down, piece.across
    result = np.empty((down.wanted * scale, across.wanted * scale, 3), np.uint8)
    network.infer(photo[down.first : down.last, across.first : across.last], piece, result, threads=threads)
    truth = whole[down.start * scale : down.end * scale, across.start * scale : across.end * scale]
    return compare(result, truth)


def made() -> dict[str, Any]:
    machine = describe()
    kept = {key: machine[key] for key in ("commit", "changed", "time", "cpu", "python")}
    return {**kept, "versions": {key: machine["versions"][key] for key in ("torch", "numpy", "pillow")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, action="append", help="one or several; all without it")
    parser.add_argument("--halo", type=int, choices=HALOS, action="append", help="likewise")
    parser.add_argument("--photos", type=int, default=4, help="at most so many of the folder")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "benchmarks" / "halos.json")
    arguments = parser.parse_args()

    report: dict[str, Any] = {"side": SIDE, "tile": TILE, "halos": list(HALOS), "models": {}}
    if arguments.out.is_file():
        report = json.loads(arguments.out.read_text())
    photos = list(middles(arguments.folder).items())[: arguments.photos]
    for model in arguments.model or MODELS:
        of_model = report["models"].setdefault(model, {})
        for name, photo in photos:
            entry = of_model.setdefault(name, {**made(), "halos": {}})
            missing = [halo for halo in arguments.halo or HALOS if str(halo) not in entry["halos"]]
            for halo, found in measure(model, photo, missing) if missing else ():
                known = {**entry["halos"], str(halo): found}
                entry["halos"] = {key: known[key] for key in map(str, HALOS) if key in known}
                arguments.out.write_text(json.dumps(report, indent=1) + "\n")
                print(model, name, halo, found, flush=True)


if __name__ == "__main__":
    main()
