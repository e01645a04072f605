"""The plan of an image for a model on a device, before anything is loaded."""

from __future__ import annotations

from upscaled_server.engine.catalogue import Spec
from upscaled_server.engine.device import Device
from upscaled_server.engine.traits import network_traits
from upscaled_server.errors import FailedPrecondition, LimitExceeded
from upscaled_server.tiling.choose import choose_plan
from upscaled_server.tiling.plan import NetworkTraits, RunPlan


def device_for(spec: Spec, device: Device, backend: str) -> Device:
    """The device with the backend that runs this model; an empty name leaves the choice.

    Raises `FailedPrecondition` for a backend that is not to be had or cannot run it.
    """
    if backend and spec.only_backend and backend != spec.only_backend:
        raise FailedPrecondition(f"{spec.name} runs on {spec.only_backend} only", backend=backend)
    return device.on(backend or spec.only_backend)


def plan_image(
    spec: Spec,
    device: Device,
    width: int,
    height: int,
    *,
    budget_bytes: int,
    parallel: int,
    band_rows: int | None = None,
) -> RunPlan:
    """The plan for `width` x `height` input pixels, in bands of `band_rows` where one is given and they fit.

    Raises `LimitExceeded` where nothing fits the budget.
    """
    traits = network_traits(spec, device)
    if device.backend != "realesrgan":
        return choose_plan(width, height, traits, budget_bytes, parallel, band_rows=band_rows)
    plan = _whole(width, height, traits, parallel)
    if plan.needed_bytes > budget_bytes:
        raise LimitExceeded(
            "options.backend",
            "the reference computes whole images only, and this one needs too much memory",
            limit=budget_bytes,
            actual=plan.needed_bytes,
            unit="bytes",
        )
    return plan


def _whole(width: int, height: int, traits: NetworkTraits, threads: int) -> RunPlan:
    return RunPlan(
        way="whole",
        width=width,
        height=height,
        scale=traits.scale,
        tile_width=width,
        tile_height=height,
        halo=0,
        # It pads to the multiple that it needs by itself.
        multiple=1,
        parallel=1,
        threads=threads,
        bytes_per_input_pixel=traits.bytes_per_input_pixel,
    )
