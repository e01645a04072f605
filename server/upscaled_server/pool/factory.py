"""Builds the engine inside a worker process, from what the server sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

if TYPE_CHECKING:  # its settings need pydantic, which a worker does without
    from upscaled_server.pool.devices import Device


def engine_config(device: Device, weights: StoreOptions) -> dict[str, Any]:
    """What `build_engine` needs, as JSON values."""
    return {
        "device": device.kind,
        "parallel": device.cores,
        "budget_bytes": device.budget_bytes,
        "weights": {
            "cache": str(weights.cache),
            "folder": None if weights.folder is None else str(weights.folder),
            "download": weights.download,
            "mirror": weights.mirror,
        },
    }


def build_engine(config: dict[str, Any]) -> Engine:
    """The engine for this worker's device. A CUDA worker sees its own card only, so there is no index to
    choose.

    Raises `FailedPrecondition` when the device cannot be used from here.
    """
    weights = config["weights"]
    device = choose_device(
        config["device"],
        parallel=config["parallel"] if config["device"] == "cpu" else None,
        budget_bytes=config["budget_bytes"],
    )
    folder = None if weights["folder"] is None else Path(weights["folder"])
    options = StoreOptions(Path(weights["cache"]), folder, weights["download"], weights["mirror"])
    return Engine(device, WeightStore(options))
