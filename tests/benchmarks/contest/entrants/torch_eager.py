"""torch as it comes: the whole image at once, fp32, NCHW, no tricks. The truth that others are compared
with."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.contest.entrants import Entrant, Pixels
from tests.benchmarks.contest.weights import spec_of, state_of


def prepare(model: str, image: Pixels) -> Entrant:
    import torch

    from upscaled_server.engine.networks.build import build_network

    network = build_network(spec_of(model).architecture, state_of(model))

    def run() -> Pixels:
        with torch.inference_mode():
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float().contiguous() / 255
            result = network(tensor)[0].clamp_(0, 1).mul_(255).round_().byte()
            out: Pixels = np.ascontiguousarray(result.permute(1, 2, 0).numpy())
            return out

    return Entrant(run, pixels=lambda rows: rows)
