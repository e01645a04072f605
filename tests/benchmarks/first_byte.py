"""How early the first byte of an encoded answer leaves, and whether memory stays flat when the image grows.

    python -m tests.benchmarks.first_byte [--input jpeg] [--megapixels 4] [--out FILE]

A photograph of this size, and one of double its height, go through `real-esrgan-animevideo-v3` to a PNG on
the CPU, each on a server of its own. "First byte" is the first chunk behind the file's header: what
comes before it does not depend on the pixels. Memory is that of all the server's processes, the decoder with
its decoded image included; pages that they share count once.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.contest import machine
from tests.benchmarks.processes import MemoryWatch, measured_server
from upscaled import Chunk, Client, Done, Progress

MODEL = "real-esrgan-animevideo-v3"
MOST_SHARE = 0.10
MOST_GROWTH = 0.10
_HEADER_BYTES = 4096


def photograph(width: int, height: int, format: str = "jpeg") -> bytes:
    """A file of `format` with smooth areas, edges and noise at several scales."""
    rng = np.random.default_rng(20)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (6, 24, 96, 384):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(layer, np.float32) / cells**0.4
    picture *= 255 / picture.max()
    out = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(out, format, quality=88)
    return out.getvalue()


def run(width: int, height: int, input_format: str, format: str) -> dict[str, Any]:
    data = photograph(width, height, input_format)
    first = header = rows = 0.0
    received = 0
    with measured_server() as server, Client(server.address, timeout=3600) as client:
        client.upscale(photograph(64, 64), model=MODEL)  # the model is loaded, as on any server in use
        with MemoryWatch(server.pid) as idle:
            time.sleep(0.5)
        began = time.monotonic()
        with MemoryWatch(server.pid) as memory:
            for event in client.upscale_stream(data, model=MODEL, format=format):  # type: ignore[arg-type]
                now = time.monotonic() - began
                match event:
                    case Chunk():
                        received += len(event.data)
                        header = header or now
                        if not first and received > _HEADER_BYTES:
                            first = now
                    case Progress() if not rows and event.rows_done:
                        rows = now
                    case Done():
                        total, result = now, event.result
    return {
        "input": [width, height], "output": [result.width, result.height], "format": format,
        "input_format": input_format, "input_bytes": len(data), "output_bytes": received,
        "seconds": {"header": header, "first_byte": first, "total": total, "first_rows_reported": rows},
        "first_byte_share": first / total,
        "server_bytes": {"idle": idle.peak_bytes, "peak": memory.peak_bytes},
        "stages": dict(result.timings.stages),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megapixels", type=float, default=4)
    parser.add_argument("--input", default="jpeg", choices=["jpeg", "png"], help="format of the photograph")
    parser.add_argument("--format", default="png", choices=["png", "jpeg", "tiff"])
    parser.add_argument("--out", type=Path, default=Path("bench-results/first_byte.json"))
    options = parser.parse_args()
    about = machine.describe()
    width = 2000
    height = round(options.megapixels * 1e6 / width)
    runs = []
    for tall in (height, 2 * height):
        found = run(width, tall, options.input, options.format)
        runs.append(found)
        seconds, memory = found["seconds"], found["server_bytes"]
        print(
            f"{width}x{tall}: first byte after {seconds['first_byte']:.2f} s of {seconds['total']:.1f} "
            f"({found['first_byte_share']:.1%}), peak {memory['peak'] / 1e6:.0f} MB "
            f"with all processes, idle {memory['idle'] / 1e6:.0f} MB"
        )
    growth = runs[1]["server_bytes"]["peak"] / runs[0]["server_bytes"]["peak"] - 1
    met = {
        "first_byte": runs[0]["first_byte_share"] <= MOST_SHARE,
        "memory": abs(growth) <= MOST_GROWTH,
    }
    print(f"peak memory at double height: {growth:+.1%}; met: {met}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    summary = {"model": MODEL, "runs": runs, "memory_growth": growth, "met": met, "machine": about}
    options.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"saved    {options.out}")


if __name__ == "__main__":
    main()
