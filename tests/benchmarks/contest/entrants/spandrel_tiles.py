"""spandrel's network, run in plain square tiles with a little context, as most programs around it do."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.contest.entrants import Entrant, NotHere, Pixels
from tests.benchmarks.contest.weights import state_of

_TILE = 256
_CONTEXT = 16


def prepare(model: str, image: Pixels) -> Entrant:
    import torch

    from upscaled_server.engine.shims import import_spandrel
    from upscaled_server.errors import FailedPrecondition

    try:
        spandrel = import_spandrel()
    except FailedPrecondition as error:
        raise NotHere(error.message) from error
    state = {name: torch.from_numpy(array) for name, array in state_of(model).items()}
    network = spandrel.ModelLoader(device="cpu").load_from_state_dict(state).eval()
    scale = network.scale
    height, width, _ = image.shape

    def run() -> Pixels:
        with torch.inference_mode():
            whole = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            out = np.empty((height * scale, width * scale, 3), np.uint8)
            for top in range(0, height, _TILE):
                for left in range(0, width, _TILE):
                    bottom, right = min(top + _TILE, height), min(left + _TILE, width)
                    first, begin = max(0, top - _CONTEXT), max(0, left - _CONTEXT)
                    tile = whole[:, :, first : bottom + _CONTEXT, begin : right + _CONTEXT]
                    result = network(tile)[0].clamp_(0, 1).mul_(255).round_().byte().permute(1, 2, 0)
                    y, x = (top - first) * scale, (left - begin) * scale
                    out[top * scale : bottom * scale, left * scale : right * scale] = result[
                        y : y + (bottom - top) * scale, x : x + (right - left) * scale
                    ].numpy()
        return out

    return Entrant(run, pixels=lambda rows: rows)
