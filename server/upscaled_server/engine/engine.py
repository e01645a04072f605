"""The engine of one device, as it lives in a worker process: networks in memory, and runs over them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from upscaled_server.engine.backends.base import Empty
from upscaled_server.engine.backends.ncnn_memory import release
from upscaled_server.engine.catalogue import Catalogue, Spec
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.device import Device
from upscaled_server.engine.loading import load_network
from upscaled_server.engine.opening import open_planned_run
from upscaled_server.engine.planning import device_for, plan_image
from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.run import Bits, Planes, Run
from upscaled_server.engine.threads import started_threads
from upscaled_server.engine.together import Outcome, step_together
from upscaled_server.engine.traits import network_traits
from upscaled_server.engine.variant import Variant
from upscaled_server.engine.weights.download import Progress
from upscaled_server.engine.weights.store import WeightStore
from upscaled_server.engine.working_memory import WorkingMemory
from upscaled_server.errors import FailedPrecondition
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

if TYPE_CHECKING:
    from upscaled_server.engine.backends.base import LoadedNetwork

# Interpolated networks that stay in memory while no image uses them.
_MAX_INTERPOLATED = 4


@dataclass(slots=True)
class _Loaded:
    network: LoadedNetwork
    provenance: Provenance
    runs: int = 0

    @property
    def current_provenance(self) -> Provenance:
        """A card may have had to go to another precision since the model was loaded."""
        return replace(self.provenance, precision=self.network.precision)


class Engine:
    """Models are named by catalogue name or alias, or as a `Variant`. `load`, `unload` and `open_run` may be
    called from any thread.

    Models stay in memory until they are unloaded; of interpolated ones only the last few used do.
    """

    def __init__(self, device: Device, store: WeightStore, catalogue: Catalogue | None = None) -> None:
        self.device = device
        self._store = store
        self._catalogue = catalogue or Catalogue()
        # By their last use, the latest at the end.
        self._loaded: OrderedDict[Variant, _Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[Variant, threading.Lock] = {}
        self._executor = started_threads(device.parallel, "upscaled-piece")
        # A card has memory of its own, whose allocator knows when it is short.
        self._memory = WorkingMemory(device.budget_bytes, release if device.kind == "cpu" else lambda: None)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The catalogue names of the models in memory, each once."""
        with self._lock:
            return tuple(dict.fromkeys(variant.model for variant in self._loaded))

    def learn(self, spec: CustomModel) -> None:
        """Take a model of the operator's folder into the catalogue, or a new state of it.

        Images that are open on an older state of its file are finished with that.
        """
        with self._lock:
            if spec not in self._catalogue:
                for variant in [variant for variant in self._loaded if variant.model == spec.name]:
                    del self._loaded[variant]
            self._catalogue.add_custom(spec)

    def traits(self, model: str | Variant) -> NetworkTraits:
        """What the planner needs. The model need not be loaded. Raises `NotFound`, `FailedPrecondition`."""
        return network_traits(*self._chosen(model))

    def plan(self, model: str | Variant, width: int, height: int) -> RunPlan:
        """The plan for an image on this device. Raises `NotFound`, `FailedPrecondition`, `LimitExceeded`."""
        spec, device = self._chosen(model)
        return plan_image(
            spec, device, width, height, budget_bytes=device.budget_bytes, parallel=device.parallel
        )

    def load(self, model: str | Variant, progress: Progress | None = None) -> Provenance:
        """Bring a model into memory, fetching its weights if need be; nothing happens if it is there.

        Raises `NotFound`, `WeightsUnavailable`, `WeightsRejected`, and `FailedPrecondition` for a backend
        that is not installed.
        """
        variant = self._variant(model)
        with self._lock:
            loading = self._loading.setdefault(variant, threading.Lock())
        with loading:
            with self._lock:
                found = self._loaded.get(variant)
            if found is None:
                device = self.device.on(variant.backend)
                found = _Loaded(*load_network(variant, self._catalogue, self._store, device, progress))
            with self._lock:
                self._loaded[variant] = found
                self._loaded.move_to_end(variant)
                left_over = self._take_left_over()
        for network in left_over:
            network.close()
        return found.current_provenance

    def unload(self, model: str) -> bool:
        """Free a model in all its variants. False if it was not loaded; raises `FailedPrecondition` while
        runs are open on it."""
        name = self._catalogue.resolve(model).name
        with self._lock:
            variants = [variant for variant in self._loaded if variant.model == name]
            runs = sum(self._loaded[variant].runs for variant in variants)
            if runs:
                raise FailedPrecondition(f"{name} is in use by {runs} images", runs=runs)
            networks = [self._loaded.pop(variant).network for variant in variants]
        for network in networks:
            network.close()
        return bool(networks)

    def provenance(self, model: str | Variant) -> Provenance:
        """Raises `FailedPrecondition` if the model is not loaded."""
        variant = self._variant(model)
        with self._lock:
            return self._require(variant).current_provenance

    def open_run(
        self,
        model: str | Variant,
        plan: RunPlan,
        out_bits: Bits,
        planes: Planes = 3,
        empty: Empty = np.empty,
    ) -> Run:
        """Begin an image; `planes`: 3 for RGB rows, 1 for their luma. `empty` makes the arrays that steps
        return, if it suits the device. The run must be closed.

        Raises `FailedPrecondition` if the model is not loaded.
        """
        variant = self._variant(model)
        if variant.denoise is not None:
            self.load(variant)  # others may have pushed it out since
        # In one go with counting the run: nobody may unload the model in between.
        with self._lock:
            found = self._require(variant)
            found.runs += 1

        self._memory.run_opens(plan)

        def closed() -> None:
            self._memory.run_closes(plan)
            with self._lock:
                found.runs -= 1

        def step_begins() -> None:
            self._memory.step_begins(variant, plan)

        try:
            return open_planned_run(
                found.network,
                plan,
                out_bits,
                self._executor,
                closed,
                planes=planes,
                on_step=step_begins,
                empty=empty,
            )
        except BaseException:  # whatever it was, no run is open
            closed()
            raise

    def step_together(self, runs: Sequence[Run]) -> list[Outcome]:
        """One step of each of several runs of this engine, which all have the same `batch_key` (not None):
        their pieces are computed as batches, and while one is computed the next comes to the device and the
        last leaves it.

        For each run, in order: the rows that its `step` would have returned, or the error that this run alone
        failed with. Any number of runs may be given; they share the device's time, so what is meant to be one
        unit of it should be few enough. A single run is simply stepped. As with `step`, one caller at a time.

        Raises `ProcessingFailed` where the keys differ or the device failed; then no run has advanced.
        """
        return step_together(runs)

    @property
    def card_memory_bytes(self) -> int | None:
        """Memory of the card in use, by whomever; None on a CPU. It waits while the card's driver does."""
        if self.device.kind == "cpu":
            return None
        import torch

        free, total = torch.cuda.mem_get_info(self.device.index)
        return int(total - free)

    def close(self) -> None:
        """Free everything; runs must be closed before."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            networks = [found.network for found in self._loaded.values()]
            self._loaded.clear()
        for network in networks:
            network.close()

    def _chosen(self, model: str | Variant) -> tuple[Spec, Device]:
        variant = Variant.of(model)
        spec = self._catalogue.resolve(variant.model)
        return spec, device_for(spec, self.device, variant.backend)

    def _variant(self, model: str | Variant) -> Variant:
        """The variant with every name spelled out, so that one network has one key."""
        spec, device = self._chosen(model)
        return replace(Variant.of(model), model=spec.name, backend=device.backend)

    def _require(self, variant: Variant) -> _Loaded:
        found = self._loaded.get(variant)
        if found is None:
            raise FailedPrecondition(f"{variant.model} is not loaded")
        return found

    def _take_left_over(self) -> list[LoadedNetwork]:
        """The interpolated networks beyond the bound, least recently used first, without those in use."""
        interpolated = [variant for variant in self._loaded if variant.denoise is not None]
        # The last one was asked for just now, and its run is about to be opened.
        idle = [variant for variant in interpolated[:-1] if not self._loaded[variant].runs]
        surplus = max(0, len(interpolated) - _MAX_INTERPOLATED)
        for variant in idle[:surplus]:
            self._loading.pop(variant, None)
        return [self._loaded.pop(variant).network for variant in idle[:surplus]]
