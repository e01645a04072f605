"""The engine of one device, as it lives in a worker process: networks in memory, and runs over them."""

from __future__ import annotations

import importlib.metadata
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upscaled_server.engine.architectures import Rrdb
from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.engine.device import Device
from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.run import Bits, PiecesRun, Run
from upscaled_server.engine.traits import network_traits
from upscaled_server.engine.weights.download import Progress
from upscaled_server.engine.weights.store import LoadedWeights, WeightStore
from upscaled_server.errors import FailedPrecondition, ProcessingFailed
from upscaled_server.tiling.choose import choose_plan
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

if TYPE_CHECKING:
    from upscaled_server.engine.backends.base import LoadedNetwork


@dataclass(slots=True)
class _Loaded:
    network: LoadedNetwork
    provenance: Provenance
    runs: int = 0


class Engine:
    """Models are named by catalogue name or alias. `load`, `unload` and `open_run` may be called from any
    thread."""

    def __init__(self, device: Device, store: WeightStore, catalogue: Catalogue | None = None) -> None:
        self.device = device
        self._store = store
        self._catalogue = catalogue or Catalogue()
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._executor = ThreadPoolExecutor(max_workers=device.parallel, thread_name_prefix="upscaled-piece")

    @property
    def loaded(self) -> tuple[str, ...]:
        """The catalogue names of the models in memory."""
        with self._lock:
            return tuple(self._loaded)

    def traits(self, model: str) -> NetworkTraits:
        """What the planner needs. The model need not be loaded. Raises `NotFound`."""
        return network_traits(self._catalogue.resolve(model), self.device)

    def plan(self, model: str, width: int, height: int) -> RunPlan:
        """The plan for an image on this device. Raises `NotFound`, `LimitExceeded`."""
        return choose_plan(width, height, self.traits(model), self.device.budget_bytes, self.device.parallel)

    def load(self, model: str, progress: Progress | None = None) -> Provenance:
        """Bring a model into memory, fetching its weights if need be; nothing happens if it is there.

        Raises `NotFound`, `WeightsUnavailable`, `WeightsRejected`.
        """
        spec = self._catalogue.resolve(model)
        with self._lock:
            loading = self._loading.setdefault(spec.name, threading.Lock())
        with loading:
            with self._lock:
                found = self._loaded.get(spec.name)
            if found is None:
                found = self._load(spec, progress)
                with self._lock:
                    self._loaded[spec.name] = found
        return found.provenance

    def unload(self, model: str) -> bool:
        """Free a model. False if it was not loaded; raises `FailedPrecondition` while runs are open on it."""
        spec = self._catalogue.resolve(model)
        with self._lock:
            found = self._loaded.get(spec.name)
            if found is None:
                return False
            if found.runs:
                raise FailedPrecondition(f"{spec.name} is in use by {found.runs} images", runs=found.runs)
            del self._loaded[spec.name]
        found.network.close()
        return True

    def provenance(self, model: str) -> Provenance:
        """Raises `FailedPrecondition` if the model is not loaded."""
        spec = self._catalogue.resolve(model)
        with self._lock:
            return self._require(spec).provenance

    def open_run(self, model: str, plan: RunPlan, out_bits: Bits) -> Run:
        """Begin an image. The run must be closed. Raises `FailedPrecondition` if the model is not loaded."""
        spec = self._catalogue.resolve(model)
        # In one go with counting the run: nobody may unload the model in between.
        with self._lock:
            found = self._require(spec)
            found.runs += 1

        def closed() -> None:
            with self._lock:
                found.runs -= 1

        try:
            return PiecesRun(found.network, plan, out_bits, self._executor, closed)
        except BaseException:
            closed()
            raise

    def close(self) -> None:
        """Free everything; runs must be closed before."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            networks = [found.network for found in self._loaded.values()]
            self._loaded.clear()
        for network in networks:
            network.close()

    def _require(self, spec: ModelSpec) -> _Loaded:
        found = self._loaded.get(spec.name)
        if found is None:
            raise FailedPrecondition(f"{spec.name} is not loaded")
        return found

    def _load(self, spec: ModelSpec, progress: Progress | None) -> _Loaded:
        weights = self._store.load(spec, progress)
        network = _network(spec, weights, self.device)
        provenance = Provenance(
            model=spec.name,
            backend=self.device.backend,
            backend_version=importlib.metadata.version(self.device.backend),
            precision=network.precision,
            device=self.device.name,
            weights=weights.source,
        )
        return _Loaded(network, provenance)


def _network(spec: ModelSpec, weights: LoadedWeights, device: Device) -> LoadedNetwork:
    if device.backend == "ncnn":
        from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork

        network = NcnnNetwork(weights.as_ncnn(), scale=spec.scale)
        network.load(device.parallel if isinstance(spec.architecture, Rrdb) else 1)
        return network
    if device.backend == "torch":
        from upscaled_server.engine.backends.torch_backend import TorchNetwork

        return TorchNetwork(weights.state, spec.architecture, kind=device.kind, precision=device.precision)
    raise ProcessingFailed(f"no backend named {device.backend!r}")
