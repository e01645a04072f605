"""PNG of an 8192x8192 result: time and size against Pillow's default, in one run, on upscaled photographs.

    python -m tests.benchmarks.png [--short] [--models DIR] [--out bench-results/png.json] IMAGE…

The pictures given, or those of a folder, are enlarged by `real-esrgan-x4-v3` and laid side by side until the
square is full. Every file is read back by Pillow, OpenCV, pngcheck and Chromium where they are installed, and
compared. `--short` makes a square of 1024x1024, to see that everything works.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.contest import machine
from tests.benchmarks.processes import measured_server
from upscaled import Client
from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.encode.options import Compression
from upscaled_server.media.info import Metadata

MODEL = "real-esrgan-x4-v3"
MOST_TIME, MOST_SIZE = 0.15, 1.25
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ROUNDS = 3
_ROWS = 64


def enlarged(images: list[Path], side: int, environ: dict[str, str]) -> NDArray[np.uint8]:
    """A square of this side, filled line by line with enlarged pictures and parts of them."""
    pictures = []
    with measured_server(**environ) as server, Client(server.address, timeout=600) as client:
        for path in images:
            data = client.upscale(path, model=MODEL).data
            pictures.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
            print(f"enlarged {path.name} to {pictures[-1].shape[1]}x{pictures[-1].shape[0]}")
    canvas = np.empty((side, side, 3), np.uint8)
    top = index = 0
    while top < side:
        left, height = 0, min(picture.shape[0] for picture in pictures)
        while left < side:
            picture = pictures[index % len(pictures)]
            index += 1
            part = picture[: min(height, side - top), : side - left]
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            left += picture.shape[1]
        top += height
    return canvas


def ours(pixels: NDArray[np.uint8], compression: Compression, threads: int) -> bytes:
    """As the server does it: rows as they come from the network, strips on a pool of threads."""
    height, width, _ = pixels.shape
    with ThreadPoolExecutor(threads) as executor:
        encoder = open_encoder(
            "PNG", width=width, height=height, channels=3, has_alpha=False, bits=8,
            options=EncodeOptions(compression=compression), metadata=Metadata(), executor=executor,
        )  # fmt: skip
        pieces = [encoder.begin()]
        futures = []
        for top in range(0, height, _ROWS):
            futures += encoder.write(pixels[top : top + _ROWS])
        futures += encoder.finish()
        pieces += [future.result() for future in futures]
    return b"".join(pieces)


def pillow(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def timed(make: Callable[[], bytes], rounds: int = _ROUNDS) -> tuple[float, bytes]:
    """The median of some rounds, in seconds, and the last file."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        data = make()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[rounds // 2], data


def readers(data: bytes, pixels: NDArray[np.uint8]) -> dict[str, str]:
    """What each reader makes of the file: "same pixels", "valid", "not installed", or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.png")
        path.write_bytes(data)
        return {
            "pillow": _verdict(np.asarray(Image.open(path)), pixels),
            "opencv": _opencv(path, pixels),
            "pngcheck": _pngcheck(path),
            "chromium": _chromium(path, pixels),
        }


def _verdict(found: NDArray[Any], pixels: NDArray[np.uint8]) -> str:
    return "same pixels" if np.array_equal(found, pixels) else "other pixels"


def _opencv(path: Path, pixels: NDArray[np.uint8]) -> str:
    try:
        import cv2
    except ImportError:
        return "not installed"
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return _verdict(found[:, :, ::-1], pixels)


def _pngcheck(path: Path) -> str:
    if shutil.which("pngcheck") is None:
        return "not installed"
    done = subprocess.run(["pngcheck", "-q", str(path)], capture_output=True, text=True, check=False)
    return "valid" if done.returncode == 0 else done.stdout.strip()


# The load event waits for the picture, and the printed document for the load event.
_PAGE = """<title>waiting</title><img id="picture" src="{source}"><script>
window.onload = () => {{
  const image = document.getElementById("picture");
  const width = image.naturalWidth, height = image.naturalHeight;
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = {rows};
  const context = canvas.getContext("2d", {{willReadFrequently: true}});
  let sum = 0n;
  for (let top = 0; top < height; top += {rows}) {{
    context.clearRect(0, 0, width, {rows});
    context.drawImage(image, 0, -top);
    const data = context.getImageData(0, 0, width, Math.min({rows}, height - top)).data;
    let a = 1, b = 0;
    for (let i = 0; i < data.length; i++) {{ a += data[i]; if (a >= 65521) a -= 65521; b = (b + a) % 65521; }}
    sum = (sum * 1000003n + BigInt(b * 65536 + a)) % 18446744073709551557n;
  }}
  image.remove();
  document.title = "sum " + width + "x" + height + " " + sum;
}};
</script>"""
_PAGE_ROWS = 256


def _chromium(path: Path, pixels: NDArray[np.uint8]) -> str:
    """Chromium's own pixels, by a checksum that the page computes over RGBA."""
    import zlib

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        return "not installed"
    source = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    page = path.with_suffix(".html")
    page.write_text(_PAGE.format(source=source, rows=_PAGE_ROWS))
    done = subprocess.run(
        [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--timeout=600000", "--dump-dom",
         page.as_uri()], capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    height, width, _ = pixels.shape
    total = 0
    for top in range(0, height, _PAGE_ROWS):
        rows = pixels[top : top + _PAGE_ROWS]
        seen = np.dstack([rows, np.full(rows.shape[:2], 255, np.uint8)])
        total = (total * 1000003 + zlib.adler32(seen.tobytes())) % 18446744073709551557
    said = done.stdout.partition("<title>")[2].partition("</title>")[0]
    if said == f"sum {width}x{height} {total}":
        return "same pixels"
    return f"other pixels: {said}" if said.startswith("sum") else f"failed: {said}, {done.stderr[-200:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--short", action="store_true", help="1024x1024 instead of 8192x8192")
    parser.add_argument("--models", type=Path, help="folder with weights of the model")
    parser.add_argument("--out", type=Path, default=Path("bench-results/png.json"))
    options = parser.parse_args()
    about = machine.describe()
    environ = {} if options.models is None else {"UPSCALED_MODEL_DIR": str(options.models)}
    images = [
        file for path in options.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    side = 1024 if options.short else 8192
    pixels = enlarged(images, side, environ)
    threads = os.cpu_count() or 1
    base_seconds, base = timed(lambda: pillow(pixels), 1)
    print(f"Pillow   {base_seconds:6.2f} s, {len(base) / 1e6:.1f} MB")
    results: dict[str, Any] = {}
    for compression in get_args(Compression):
        for count in (threads, 1) if compression == "default" else (threads,):
            rounds = 1 if compression == "small" else _ROUNDS
            seconds, data = timed(lambda c=compression, n=count: ours(pixels, c, n), rounds)  # type: ignore[misc]
            found = {
                "seconds": seconds, "bytes": len(data), "threads": count,
                "time": seconds / base_seconds, "size": len(data) / len(base),
                "readers": readers(data, pixels) if count == threads else {},
            }  # fmt: skip
            results[f"{compression}, {count} threads"] = found
            print(
                f"{compression:8} {seconds:6.2f} s, {len(data) / 1e6:.1f} MB with {count} threads: "
                f"{found['time']:.3f} of the time, {found['size']:.3f} of the size; {found['readers']}"
            )
    best = results[f"default, {threads} threads"]
    met = best["time"] <= MOST_TIME and best["size"] <= MOST_SIZE
    print(f"default within {MOST_TIME} of the time and {MOST_SIZE} of the size: {'yes' if met else 'NO'}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    summary = {
        "side": side, "images": [path.name for path in images], "model": MODEL,
        "pillow": {"seconds": base_seconds, "bytes": len(base)}, "ours": results, "met": met,
        "cores": threads, "machine": about,
    }  # fmt: skip
    options.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"saved    {options.out}")


if __name__ == "__main__":
    main()
