"""The whole way: a PNG from the client to the server, decoded, upscaled, encoded, streamed back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.benchmarks.contest.entrants import Entrant, Pixels
from tests.benchmarks.contest.weights import options
from tests.benchmarks.processes import MemoryWatch, measured_server
from upscaled import Chunk, Client, Done


def prepare(model: str, image: Pixels) -> Entrant:
    folder = options().folder
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    stages: dict[str, float] = {}

    def run() -> bytes:
        received = bytearray()
        for event in client.upscale_stream(file.getvalue(), model=model, format="png"):
            match event:
                case Chunk():
                    received += event.data
                case Done():
                    stages.update(event.result.timings.stages)
        return bytes(received)

    def pixels(received: bytes) -> Pixels:
        Image.MAX_IMAGE_PIXELS = None
        return np.asarray(Image.open(io.BytesIO(received)).convert("RGB"))

    entrant = Entrant(
        run,
        pixels,
        notes=lambda: {"stages": {name: round(seconds, 3) for name, seconds in stages.items()}},
        peak_bytes=lambda: watch.peak_bytes,
    )
    environ = {"UPSCALED_MODEL_DIR": str(folder)} if folder else {}
    server = entrant.holding.enter_context(measured_server(**environ))
    watch = entrant.holding.enter_context(MemoryWatch(server.pid))
    client = entrant.holding.enter_context(Client(server.address, timeout=3600))
    return entrant
