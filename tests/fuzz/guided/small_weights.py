"""Networks that are small enough to be read and run thousands of times."""

from __future__ import annotations

import numpy as np

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.weights.state import StateDict

ARCHITECTURES: tuple[Architecture, ...] = (
    Compact(convs=1, features=4),
    Rrdb(blocks=1, features=4, growth=2),
    Rrdb(blocks=1, scale=2, features=4, growth=2),
)


def random_state(architecture: Architecture) -> StateDict:
    chance = np.random.default_rng(1)
    return {
        name: chance.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in architecture.shapes().items()
    }
