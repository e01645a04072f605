"""How far mean colours move: by the bare network, in an answer, and in one made with `keep_colors`.

    python -m tests.benchmarks.colours [--models DIR] [--out bench-results/colours.json] IMAGE…

A shift is the difference between the mean of a channel over the visible pixels of the result, reduced by area
to the input's size, and that of the input; in sRGB, in steps of 255. The largest of the channels counts. The
bare network is `real-esrgan-x4-v3` on the pixels as Pillow and Little CMS give them, without a server.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.benchmarks.contest import machine
from tests.benchmarks.processes import measured_server
from upscaled import Client
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

MODEL = "real-esrgan-x4-v3"
FACTOR = 4

Seen = NDArray[np.float64]
"""(height, width, red, green, blue and alpha) in sRGB, 0 to 255."""


def seen(data: bytes) -> Seen:
    """A file as a viewer shows it; of 16 bits the upper eight."""
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    icc = image.info.get("icc_profile")
    if icc and image.mode in ("L", "RGB"):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        shown = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB", flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        assert shown is not None
        image = shown
    return np.asarray(image.convert("RGBA"), float)


def shift(before: Seen, after: Seen) -> list[float]:
    """Of red, green and blue, over the visible pixels, after reduction to the size of `before`."""
    height, width = before.shape[:2]
    down, across = after.shape[0] // height, after.shape[1] // width
    weighted = np.concatenate([after[..., :3] * after[..., 3:], after[..., 3:]], axis=2)
    small = weighted.reshape(height, down, width, across, 4).mean((1, 3)).sum((0, 1))
    large = np.concatenate([before[..., :3] * before[..., 3:], before[..., 3:]], axis=2).sum((0, 1))
    return [float(each) for each in small[:3] / small[3] - large[:3] / large[3]]


def largest(shifts: list[float]) -> float:
    return max(map(abs, shifts))


class BareNetwork:
    """The network without anything around it."""

    def __init__(self, models: Path | None, cache: Path) -> None:
        self._engine = Engine(
            choose_device("cpu"), WeightStore(StoreOptions(cache, models, models is None, None))
        )
        self._engine.load(MODEL)

    def __call__(self, before: Seen) -> Seen:
        """Colour under transparent pixels as it is in the file; alpha repeated."""
        pixels = np.rint(before[..., :3]).astype(np.uint8)
        height, width = pixels.shape[:2]
        run = self._engine.open_run(MODEL, self._engine.plan(MODEL, width, height), 8)
        parts, fed = [], 0
        while not run.done:
            if wanted := run.rows_wanted:
                run.feed(pixels[fed : fed + wanted])
                fed += wanted
            parts.append(run.step())
        run.close()
        alpha = before[..., 3:].repeat(FACTOR, 0).repeat(FACTOR, 1)
        return np.concatenate([np.concatenate(parts).astype(float), alpha], axis=2)


def measured(data: bytes, client: Client, network: BareNetwork) -> dict[str, list[float]]:
    before = seen(data)
    found = {"network": shift(before, network(before))}
    for name, keep in (("answer", False), ("keep_colors", True)):
        answer = client.upscale(data, model=MODEL, keep_colors=keep)
        found[name] = shift(before, seen(answer.data))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--models", type=Path, help="folder with weights of the model")
    parser.add_argument("--out", type=Path, default=Path("bench-results/colours.json"))
    options = parser.parse_args()
    about = machine.describe()
    environ = {} if options.models is None else {"UPSCALED_MODEL_DIR": str(options.models)}
    images = [
        file for path in options.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    results: dict[str, Any] = {}
    network = BareNetwork(options.models, options.out.parent / "weights")
    with measured_server(**environ) as server, Client(server.address, timeout=600) as client:
        for path in images:
            found = measured(path.read_bytes(), client, network)
            results[path.name] = found
            shown = ", ".join(f"{name} {largest(shifts):.2f}" for name, shifts in found.items())
            print(f"{path.name}: {shown}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"model": MODEL, "shifts": results, "machine": about}, indent=1) + "\n")
    print(f"saved    {options.out}")


if __name__ == "__main__":
    main()
