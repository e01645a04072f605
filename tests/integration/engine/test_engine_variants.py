"""Variants of a model: other backends, and weights between two models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.integration.engine.conftest import random_state

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.variant import Variant
from upscaled_server.engine.weights.blend import blend
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.errors import FailedPrecondition

GENERAL, OTHER = "real-esrgan-x4-v3", "real-esrgan-x4-v3-wdn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for the two general models."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate((GENERAL, OTHER)):
        spec = Catalogue().resolve(name)
        shapes = spec.architecture.shapes()
        state = random_state(spec.architecture, seed)
        tensors = {key: torch.from_numpy(array) for key, array in state.items() if key in shapes}
        torch.save({"params": tensors}, folder / f"{name}.pth")
    return folder


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> WeightStore:
    return WeightStore(StoreOptions(tmp_path, folder, download=False))


@pytest.fixture
def engine(store: WeightStore) -> Iterator[Engine]:
    engine = Engine(choose_device("cpu"), store)
    yield engine
    engine.close()


def test_weights_are_mixed_tensor_by_tensor_and_the_ends_are_the_models(store: WeightStore) -> None:
    own, other = (store.load(Catalogue().resolve(name)) for name in (GENERAL, OTHER))
    for share in (0, 25, 100):
        mixed = blend(own, other, share)
        for name, tensor in mixed.state.items():
            wanted = share / 100 * own.state[name] + (1 - share / 100) * other.state[name]
            np.testing.assert_allclose(tensor, wanted, rtol=1e-6, atol=1e-7)
    assert mixed.source.origin == "interpolated"
    assert mixed.source.sha256 == blend(own, other, 100).source.sha256 != own.source.sha256
    assert "1.00 folder" in mixed.source.described


def test_only_the_last_few_mixtures_stay_in_memory_and_those_in_use(engine: Engine) -> None:
    engine.load(GENERAL)
    used = Variant(GENERAL, denoise=1)
    engine.load(used)
    run = engine.open_run(used, engine.plan(used, 8, 8), 8)
    for denoise in range(10, 20):
        engine.load(Variant(GENERAL, denoise=denoise))
        assert sum(variant.denoise is not None for variant in engine._loaded) <= 5
    assert engine.provenance(used).weights.origin == "interpolated"
    assert engine.provenance(GENERAL).weights.origin == "folder"
    run.feed(np.zeros((8, 8, 3), np.uint8))
    while not run.done:
        run.step()
    run.close()
    gone = Variant(GENERAL, denoise=10)
    engine.open_run(gone, engine.plan(gone, 8, 8), 8).close()  # comes back by itself
    assert engine.unload(GENERAL)
    assert engine.loaded == ()


def test_one_network_has_one_key_whatever_it_was_called(engine: Engine) -> None:
    for name in (GENERAL, "realesr-general-x4v3", "REALESR-GENERAL-X4V3"):
        engine.load(name)
        engine.load(Variant(name, "ncnn"))
    assert len(engine._loaded) == 1
    assert engine.load(Variant(GENERAL, "torch")).backend == "torch"
    assert len(engine._loaded) == 2


def test_a_model_without_counterpart_is_not_mixed(engine: Engine) -> None:
    with pytest.raises(FailedPrecondition, match="counterpart"):
        engine.load(Variant(OTHER, denoise=50))


def test_a_backend_that_is_not_for_the_device_is_refused(engine: Engine) -> None:
    with pytest.raises(FailedPrecondition, match="tensorrt"):
        engine.load(Variant(GENERAL, "tensorrt"))
    assert engine.device.backends[:2] == ("ncnn", "torch")
