"""A device of a fixed speed, for servers to be compared on: found first by the interpreter as it starts, this
makes the networks of workers take `SIMULATED_SECONDS` for a piece of an image and no processor time. All else
of a server is as it is.

Small images on one core are one piece. The pixels of the result are those of the input, repeated.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


class SimulatedNetwork:
    """A `LoadedNetwork`."""

    backend = "simulated"

    def __init__(self, network: Any) -> None:
        self.precision = network.precision
        self.scale = network.scale
        self._seconds = float(os.environ["SIMULATED_SECONDS"])

    def infer(self, source: Any, piece: Any, out: Any, *, threads: int) -> None:  # noqa: ARG002
        until = time.monotonic() + self._seconds
        down, across = piece.down, piece.across
        wanted = source[
            down.inside : down.inside + down.wanted, across.inside : across.inside + across.wanted
        ]
        out[:] = wanted.repeat(self.scale, 0).repeat(self.scale, 1)[:, :, : out.shape[2]]
        time.sleep(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        pass


def _simulate() -> None:
    from upscaled_server.engine import engine

    load = engine.load_network

    def load_network(*arguments: Any) -> tuple[Any, Any]:
        network, provenance = load(*arguments)
        simulated = SimulatedNetwork(network)
        network.close()
        return simulated, provenance

    engine.load_network = load_network


# Only in workers; at this point the interpreter has not looked at its arguments.
if "upscaled_server.pool.worker" in sys.orig_argv:
    _simulate()
