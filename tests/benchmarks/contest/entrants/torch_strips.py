"""What others are compared with where the whole image does not fit into memory: torch fp32 in strips, each
with more rows around it than the network sees. Only for networks that see a known, small distance."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.contest.entrants import Entrant, NotHere, Pixels
from tests.benchmarks.contest.weights import spec_of, state_of

_ROWS = 128


def prepare(model: str, image: Pixels) -> Entrant:
    import torch

    from upscaled_server.engine.architectures import Compact
    from upscaled_server.engine.networks.build import build_network

    architecture = spec_of(model).architecture
    if not isinstance(architecture, Compact):
        raise NotHere("the whole image is too large for torch, and this network sees too far for strips")
    network = build_network(architecture, state_of(model))
    context = architecture.receptive_field

    def run() -> Pixels:
        pieces = []
        with torch.inference_mode():
            for top in range(0, image.shape[0], _ROWS):
                first = max(0, top - context)
                rows = image[first : top + _ROWS + context]
                tensor = torch.from_numpy(rows).permute(2, 0, 1)[None].float().contiguous() / 255
                result = network(tensor)[0].clamp_(0, 1).mul_(255).round_().byte().permute(1, 2, 0)
                begin = (top - first) * architecture.scale
                count = min(_ROWS, image.shape[0] - top) * architecture.scale
                pieces.append(result[begin : begin + count].numpy())
        return np.concatenate(pieces)

    return Entrant(run, pixels=lambda rows: rows)
