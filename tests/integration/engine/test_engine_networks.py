"""The networks compute what independent implementations compute: torch like spandrel, ncnn like torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.integration.engine.truth import Load

from upscaled_server.engine import catalogue
from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.weights.ncnn.model import NcnnModel, read_ncnn, write_ncnn

MODELS = [spec.name for spec in catalogue.MODELS]


def _image(size: tuple[int, int] = (22, 26)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).random((1, 3, *size), np.float32))


def _through_ncnn(model: NcnnModel, image: torch.Tensor) -> np.ndarray[Any, Any]:
    """Floats in and out, without the rounding to pixels."""
    import ncnn

    network = NcnnNetwork(model, scale=4)
    net, _ = network._net(1)
    value = ncnn.Mat(image.shape[3], image.shape[2], 3)
    np.asarray(value)[...] = image[0].numpy()
    extractor = net.create_extractor()
    extractor.input(model.input, value)
    code, result = extractor.extract(model.output)
    assert code == 0
    return np.array(result)


@pytest.mark.parametrize("name", MODELS)
def test_torch_equals_spandrel(name: str, load_weights: Load, spandrel: Any) -> None:
    weights = load_weights(name)
    network = build_network(weights.spec.architecture, weights.state)
    tensors = {key: torch.from_numpy(array) for key, array in weights.state.items()}
    reference = spandrel.ModelLoader().load_from_state_dict(tensors)
    assert reference.scale == weights.spec.scale
    image = _image()
    with torch.inference_mode():
        difference = (network(image) - reference.model.eval()(image)).abs().max().item()
    assert difference <= 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_ncnn_equals_torch_with_the_files_and_with_our_own(name: str, load_weights: Load) -> None:
    weights = load_weights(name)
    image = _image()
    with torch.inference_mode():
        expected = build_network(weights.spec.architecture, weights.state)(image)[0].numpy()
    models = [write_ncnn(weights.state, weights.spec.architecture)]
    if weights.ncnn is not None:
        models.append(weights.ncnn)
    for model in models:
        assert np.abs(_through_ncnn(model, image) - expected).max() <= 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_ncnn_files_survive_our_converter(name: str, load_weights: Load) -> None:
    weights = load_weights(name)
    architecture = weights.spec.architecture
    again = write_ncnn(weights.state, architecture, "fp16")
    _, state = read_ncnn(again.param, again.bin, architecture, "test")
    if weights.ncnn is not None:
        # The upstream files are fp16: the same bytes come out.
        assert again.bin == weights.ncnn.bin
        for key, array in weights.state.items():
            np.testing.assert_array_equal(state[key], array)
    for key, array in weights.state.items():
        np.testing.assert_allclose(state[key], array, rtol=2**-10, atol=1e-6)
