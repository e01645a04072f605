"""PNG from clients to a server and back, as many calls at a time as keep the card busy."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.card.cases import CardCase
from tests.benchmarks.contest.weights import options
from tests.benchmarks.processes import measured_server
from upscaled import Chunk, Client


def end_to_end(
    case: CardCase, image: NDArray[np.uint8], device: torch.device, *, calls: int, at_once: int
) -> dict[str, Any]:
    """Images per second over `calls` calls, the first `at_once` of which only warm up, and the last PNG's
    pixels."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    folder = options().folder
    name = "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"
    environ = {"UPSCALED_DEVICES": name, "UPSCALED_MAX_OPEN_RUNS": str(2 * at_once)}
    if folder:
        environ["UPSCALED_MODEL_DIR"] = str(folder)
    with (
        measured_server(**environ) as server,
        Client(server.address, timeout=600) as client,
        ThreadPoolExecutor(at_once) as threads,
    ):

        def call(_: int) -> bytes:
            received = bytearray()
            for event in client.upscale_stream(file.getvalue(), model=case.model, format="png"):
                if isinstance(event, Chunk):
                    received += event.data
            return bytes(received)

        list(threads.map(call, range(at_once)))
        began = time.perf_counter()
        results = list(threads.map(call, range(calls)))
        seconds = time.perf_counter() - began
    Image.MAX_IMAGE_PIXELS = None
    return {
        "calls": calls,
        "at_once": at_once,
        "seconds": seconds,
        "images_per_second": calls / seconds,
        "bytes": len(results[-1]),
        "pixels": np.asarray(Image.open(io.BytesIO(results[-1])).convert("RGB")),
    }
