"""Small networks with random weights, and files made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upscaled_server.engine.architectures import Architecture, Compact
from upscaled_server.engine.catalogue import MODELS, ModelSpec, OfficialFile
from upscaled_server.engine.weights.state import StateDict


def random_state(architecture: Architecture, seed: int = 0) -> StateDict:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in architecture.shapes().items()
    }


@pytest.fixture
def tiny() -> Compact:
    return Compact(convs=1, features=8)


@pytest.fixture
def tiny_state(tiny: Compact) -> StateDict:
    return random_state(tiny)


@pytest.fixture
def tiny_spec(tiny: Compact) -> ModelSpec:
    """A model of the tiny network, which has an official file but is in no package."""
    base = next(spec for spec in MODELS if spec.name == "real-esrgan-x4-v3")
    return replace(base, architecture=tiny, official=OfficialFile("v1", "tiny.pth", 1, "0" * 64))
