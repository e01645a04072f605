"""One set of weights for all: those that the server finds."""

from __future__ import annotations

from tests.benchmarks.contest.cases import REPO
from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.engine.weights.settings import WeightSettings
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.engine.weights.store import StoreOptions, WeightStore


def options() -> StoreOptions:
    """Where weights are looked for: `UPSCALED_MODEL_DIR`, else the maintainers' folder, and so on as in the
    server."""
    settings = WeightSettings()
    shared = REPO.parent / "shared" / "models"
    if settings.model_dir is None and shared.is_dir():
        settings = settings.model_copy(update={"model_dir": shared})
    return settings.store_options()


def spec_of(model: str) -> ModelSpec:
    return Catalogue().resolve(model)


def state_of(model: str) -> StateDict:
    """Raises `WeightsUnavailable`."""
    return WeightStore(options()).load(spec_of(model)).state
