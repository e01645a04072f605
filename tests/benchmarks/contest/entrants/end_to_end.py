"""The whole way: a PNG from the client to the server, decoded, upscaled, encoded, streamed back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.contest.entrants import Entrant, Pixels
from tests.benchmarks.contest.ledger import Ledger
from tests.benchmarks.contest.weights import options
from tests.benchmarks.processes import MemoryWatch, measured_server
from upscaled import Chunk, Client, Done


def prepare(model: str, image: Pixels) -> Entrant:
    folder = options().folder
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    notes: dict[str, Any] = {}
    peak = 0

    def run() -> bytes:
        received = bytearray()
        with ledger:
            for event in client.upscale_stream(file.getvalue(), model=model, format="png"):
                match event:
                    case Chunk():
                        received += event.data
                    case Done():
                        stages = event.result.timings.stages
                        notes["stages"] = {name: round(seconds, 3) for name, seconds in stages.items()}
        notes["cpu_seconds"] = ledger.seconds
        return bytes(received)

    @contextmanager
    def watched() -> Iterator[None]:
        nonlocal peak
        with MemoryWatch(server.pid) as watch:
            yield
        peak = watch.peak_bytes

    def pixels(received: bytes) -> Pixels:
        Image.MAX_IMAGE_PIXELS = None
        return np.asarray(Image.open(io.BytesIO(received)).convert("RGB"))

    # Reading the memory of all these processes twenty times a second costs an eighth of a second per second:
    # it is done in the warm-up, which is not timed.
    entrant = Entrant(run, pixels, notes=lambda: notes, peak_bytes=lambda: peak, warming=watched)
    environ = {"UPSCALED_MODEL_DIR": str(folder)} if folder else {}
    server = entrant.holding.enter_context(measured_server(**environ))
    ledger = Ledger(server.pid)
    client = entrant.holding.enter_context(Client(server.address, timeout=3600))
    return entrant
