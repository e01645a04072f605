"""`make demo`: start a server, send it an image, watch rows and tiles arrive, keep the file, stop the
server."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upscaled import Chunk, Client, Done, Plan, Progress, Tile, Tiles, UpscaledError

REPO = Path(__file__).resolve().parents[1]


@contextmanager
def server() -> Iterator[str]:
    """A server of our own on a free port; its address. It keeps its state in a folder that is removed at
    the end."""
    with tempfile.TemporaryDirectory(prefix="upscaled-demo-") as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "upscaled", "serve", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "UPSCALED_DATA_DIR": folder, "UPSCALED_LOG_LEVEL": "warning"},
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "listening on " not in line:
                raise SystemExit("demo: the server did not start, see above")
            address = line.rpartition(" ")[2].strip()
            print(f"server   {address}, serving after {time.monotonic() - began:.1f} s")
            yield address
        finally:
            process.terminate()
            process.wait(60)
            print("server   stopped")


def upscale(client: Client, image: Path, model: str, scale: float) -> Path:
    """Send one image and follow it to its end; the path of the result."""
    target = REPO / "demo-output" / f"{image.stem}_x{scale:g}.png"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".part")
    tiles, first_tile = 0, None
    began = time.monotonic()
    with partial.open("wb") as file:
        for event in client.upscale_stream(image, model=model, scale=scale, tiles=Tiles(encoding="jpeg")):
            match event:
                case Plan():
                    print(
                        f"plan     {event.input_width}x{event.input_height} to "
                        f"{event.output_width}x{event.output_height} with {model}, "
                        f"about {event.estimated_seconds:.0f} s"
                    )
                case Progress():
                    filled = round(event.fraction * 40)
                    bar = "#" * filled + "." * (40 - filled)
                    print(f"\rrows     [{bar}] {event.rows_done} of {event.rows_total}", end="", flush=True)
                case Tile():
                    tiles += 1
                    first_tile = first_tile or time.monotonic() - began
                case Chunk():
                    file.write(event.data)
                case Done():
                    done = event
    partial.replace(target)
    print(f"\ntiles    {tiles} arrived, the first after {first_tile or 0:.1f} s")
    for stage, seconds in done.result.timings.stages.items():
        print(f"{stage:<8} {seconds:.2f} s")
    print(f"total    {done.result.timings.total_seconds:.2f} s (stages overlap)")
    made_by = done.result.provenance
    print(f"made by  {made_by.model}, {made_by.backend} {made_by.precision} on {made_by.device}")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default="real-esrgan-x4-plus")
    parser.add_argument("--scale", type=float, default=4.0)
    options = parser.parse_args()
    try:
        with server() as address, Client(address) as client:
            target = upscale(client, options.image, options.model, options.scale)
    except UpscaledError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print(f"picture  {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
