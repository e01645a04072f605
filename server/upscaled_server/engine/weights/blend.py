"""Interpolating the weights of two models: "deep network interpolation" (Wang et al. 2019, arXiv:1811.10515).

The two general models of Real-ESRGAN were trained alike but for how much they denoise, so that every mixture
of their weights is a network in between.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from upscaled_server.engine.provenance import WeightsSource
from upscaled_server.engine.variant import DENOISE_STEPS
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.engine.weights.store import LoadedWeights


def blend(own: LoadedWeights, other: LoadedWeights, share: int) -> LoadedWeights:
    """`share` hundredths of `own` and the rest of `other`, tensor by tensor in fp32, as upstream does it.

    Both must be of one architecture.
    """
    first, second = np.float32(share / DENOISE_STEPS), np.float32(1 - share / DENOISE_STEPS)
    state: StateDict = {}
    digest = hashlib.sha256()
    for name, tensor in own.state.items():
        state[name] = first * tensor + second * other.state[name]
        digest.update(state[name].data)
    made_of = (
        f"{first:.2f} {own.source.origin} {Path(own.source.path).name}, "
        f"{second:.2f} {other.source.origin} {Path(other.source.path).name}"
    )
    source = WeightsSource(
        origin="interpolated",
        path=made_of,
        sha256=digest.hexdigest(),
        size_bytes=sum(tensor.nbytes for tensor in state.values()),
        verified=own.source.verified and other.source.verified,
    )
    return LoadedWeights(own.spec, state, source)
