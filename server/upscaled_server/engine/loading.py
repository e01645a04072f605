"""From a variant to a network in memory: its weights, then the backend that computes it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from upscaled_server.engine.architectures import Rrdb
from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.device import Device
from upscaled_server.engine.provenance import Provenance, WeightsSource
from upscaled_server.engine.variant import Variant
from upscaled_server.engine.weights.blend import blend
from upscaled_server.engine.weights.download import Progress
from upscaled_server.engine.weights.store import LoadedWeights, WeightStore
from upscaled_server.errors import FailedPrecondition, ProcessingFailed

if TYPE_CHECKING:
    from upscaled_server.engine.backends.base import LoadedNetwork


def load_network(
    variant: Variant, catalogue: Catalogue, store: WeightStore, device: Device, progress: Progress | None
) -> tuple[LoadedNetwork, Provenance]:
    """`device` is the one that the variant asks for, see `Device.on`.

    Raises `NotFound`, `WeightsUnavailable`, `WeightsRejected`, `FailedPrecondition`.
    """
    spec = catalogue.resolve(variant.model)
    if isinstance(spec, CustomModel):
        network, source = _custom(spec, store, device)
    else:
        weights = store.load(spec, progress)
        if variant.denoise is not None:
            weights = blend(weights, _counterpart(spec, catalogue, store, progress), variant.denoise)
        network, source = _network(spec, weights, device), weights.source
    provenance = Provenance(
        model=spec.name,
        backend=device.backend,
        backend_version=importlib.metadata.version(device.backend),
        precision=network.precision,
        device=device.name,
        weights=source,
    )
    return network, provenance


def _custom(spec: CustomModel, store: WeightStore, device: Device) -> tuple[LoadedNetwork, WeightsSource]:
    from upscaled_server.engine.custom.load import load_custom
    from upscaled_server.engine.custom.network import CustomNetwork

    data, source = store.read_custom(spec)
    path = Path(source.path)
    if device.kind == "cuda":
        from upscaled_server.engine.custom.cuda_network import custom_cuda_network

        return custom_cuda_network(lambda: load_custom(data, path.suffix, path.name), spec, device), source
    return CustomNetwork(load_custom(data, path.suffix, path.name)), source


def _counterpart(
    spec: ModelSpec, catalogue: Catalogue, store: WeightStore, progress: Progress | None
) -> LoadedWeights:
    other = catalogue.resolve(spec.counterpart) if spec.counterpart else None
    if not isinstance(other, ModelSpec):
        raise FailedPrecondition(f"{spec.name} has no counterpart to be interpolated with")
    return store.load(other, progress)


def _network(spec: ModelSpec, weights: LoadedWeights, device: Device) -> LoadedNetwork:
    if device.backend == "ncnn":
        from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork

        network = NcnnNetwork(weights.as_ncnn(), scale=spec.scale, architecture=spec.architecture)
        # What the planner chooses: bands, and for small images of a compact network the whole on all cores.
        network.bands()
        if not isinstance(spec.architecture, Rrdb):
            network.load(device.parallel)
        return network
    if device.backend == "torch" and device.kind == "cuda":
        from upscaled_server.engine.backends.cuda.catalogue_network import catalogue_network

        return catalogue_network(weights.state, spec.architecture, device)
    if device.backend == "torch":
        from upscaled_server.engine.backends.torch_backend import TorchNetwork

        return TorchNetwork(weights.state, spec.architecture)
    if device.backend == "realesrgan":
        from upscaled_server.engine.backends.realesrgan_backend import ReferenceNetwork

        on = "cpu" if device.kind == "cpu" else f"cuda:{device.index}"
        return ReferenceNetwork(weights.state, spec.architecture, device=on)
    raise ProcessingFailed(f"no backend named {device.backend!r}")
