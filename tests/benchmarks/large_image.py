"""A 20-megapixel JPEG through `upscale_stream`: peak memory of server and client, first tile against the
last.

    python -m tests.benchmarks.large_image [--megapixels 20] [--out bench-results/large_image.json]

The photograph is made here: smooth areas, edges and noise at several scales, saved as JPEG.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.contest import machine
from tests.benchmarks.processes import MemoryWatch, measured_server
from upscaled import Chunk, Client, Done, Plan, Tile, Tiles

MODEL = "real-esrgan-animevideo-v3"


def photograph(megapixels: float) -> tuple[bytes, int, int]:
    """A 3:2 JPEG of about this size, and its width and height in pixels."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    rng = np.random.default_rng(20)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (6, 24, 96, 384):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(layer, np.float32) / cells**0.4
    picture *= 255 / picture.max()
    out = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue(), width, height


def run(megapixels: float) -> dict[str, object]:
    data, width, height = photograph(megapixels)
    print(f"input    {width}x{height}, {len(data) / 1e6:.1f} MB JPEG")
    client_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    received = tiles = 0
    first_tile = last_tile = first_chunk = 0.0
    with measured_server() as server, MemoryWatch(server.pid) as memory, Client(server.address) as client:
        client.models.list()
        idle = memory.peak_bytes
        began = time.monotonic()
        for event in client.upscale_stream(
            data, model=MODEL, format="jpeg", tiles=Tiles(size=1024, encoding="jpeg")
        ):
            now = time.monotonic() - began
            match event:
                case Plan():
                    print(f"plan     to {event.output_width}x{event.output_height}, {event.tile_count} tiles")
                case Tile():
                    tiles, last_tile = tiles + 1, now
                    first_tile = first_tile or now
                case Chunk():
                    received += len(event.data)
                    first_chunk = first_chunk or now
                case Done():
                    total, done = now, event
    client_after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "model": MODEL,
        "input": [width, height],
        "output": [done.result.width, done.result.height],
        "output_bytes": received,
        "tiles": tiles,
        "seconds": {
            "total": total,
            "first_chunk": first_chunk,
            "first_tile": first_tile,
            "last_tile": last_tile,
            "stages": dict(done.result.timings.stages),
        },
        "server_bytes": {"idle": idle, "peak": memory.peak_bytes},
        "client_growth_bytes": client_after - client_before,
        "recomputed_share": done.result.plan.recomputed_share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megapixels", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("bench-results/large_image.json"))
    options = parser.parse_args()
    about = machine.describe()
    result = run(options.megapixels) | {"machine": about}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    seconds, memory = result["seconds"], result["server_bytes"]
    assert isinstance(seconds, dict)
    assert isinstance(memory, dict)
    print(
        f"tiles    {result['tiles']}, the first after {seconds['first_tile']:.1f} s, "
        f"the last after {seconds['last_tile']:.1f} s"
    )
    print(
        f"server   {memory['idle'] / 1e6:.0f} MB idle, {memory['peak'] / 1e6:.0f} MB at its peak, "
        "all its processes"
    )
    print(f"client   grew by {int(str(result['client_growth_bytes'])) / 1e6:.0f} MB")
    print(f"saved    {options.out}")


if __name__ == "__main__":
    main()
