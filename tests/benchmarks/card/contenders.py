"""Who takes part. Each is made ready for a case and gives a function that upscales `images` images, and one
that gives the pixels of its last result.

"From and to the host" begins with pixels in ordinary memory and ends with the result there; "on the device"
leaves input and result on the card.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.card.cases import CardCase
from tests.benchmarks.contest.weights import options, spec_of, state_of
from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
from upscaled_server.engine.backends.cuda.fused import from_integers
from upscaled_server.engine.backends.cuda.lane import lane_of
from upscaled_server.engine.backends.realesrgan_backend import make_upsampler
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.run import Run
from upscaled_server.engine.weights.store import WeightStore

Pixels = NDArray[np.uint8]


@dataclass
class Ready:
    """`run` upscales `images` images; `pixels` is the last result as (height, width, 3) RGB."""

    run: Callable[[], Any]
    pixels: Callable[[], Pixels]
    images: int
    notes: dict[str, Any]


def engine_alone(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack) -> Ready:
    """One image at a time: the step of one ends before the next begins."""
    return _engine(case, image, device, stack, 1)


def engine_together(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack) -> Ready:
    """Several images at a time, as the pool's scheduler gives them to a card."""
    return _engine(case, image, device, stack, case.together)


def _engine(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack, images: int) -> Ready:
    name = str(device)
    engine = Engine(choose_device(name, "torch" if name == "cpu" else "auto"), WeightStore(options()))
    stack.callback(engine.close)
    provenance = engine.load(case.model)
    plan = engine.plan(case.model, case.width, case.height)
    last: list[Pixels] = []

    def run() -> None:
        runs = [engine.open_run(case.model, plan, 8) for _ in range(images)]
        results: list[list[Pixels]] = [[] for _ in runs]
        fed = 0
        try:
            while not runs[0].done:
                wanted = runs[0].rows_wanted
                for each in runs:
                    each.feed(image[fed : fed + wanted])
                fed += wanted
                for rows, result in zip(_step(engine, runs), results, strict=True):
                    result.append(rows)
        finally:
            for each in runs:
                each.close()
        last[:] = results[-1]

    notes = {
        "plan": plan.to_dict(),
        "steps": plan.steps,
        "precision": provenance.precision,
        "together": images,
    }
    return Ready(run, lambda: np.concatenate(last), images, notes)


def _step(engine: Engine, runs: list[Run]) -> list[Any]:
    """One step of each. Runs that nothing is gained for are stepped one after the other."""
    if len(runs) == 1 or runs[0].batch_key is None:
        return [run.step() for run in runs]
    outcomes = engine.step_together(runs)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def engine_network(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack) -> Ready:
    """The form of the network that the engine chose, without copies and graphs."""
    lane = lane_of(device)
    precision = "fp16" if device.type == "cuda" else "fp32"
    network = on_lane(state_of(case.model), spec_of(case.model).architecture, lane, precision)
    stack.callback(network.close)
    found: list[torch.Tensor] = []
    with lane.working():
        integers = lane.upload([image])
        lane.synchronize()

    def run() -> torch.Tensor:
        with lane.working():
            found[:] = [network.compute(integers, 8, 3)[0]]
        lane.synchronize()
        return found[0]

    return Ready(
        run, lambda: found[0][0].cpu().numpy(), 1, {"form": network.form, "precision": network.precision}
    )


def realesrganer(case: CardCase, image: Pixels, device: torch.device, _: ExitStack) -> Ready:
    """RealESRGANer of the realesrgan package with its defaults, in half precision on a card."""
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        upsampler = make_upsampler(
            spec_of(case.model).architecture,
            state_of(case.model),
            device=device,
            half=device.type == "cuda",
        )
    bgr = np.ascontiguousarray(image[..., ::-1])
    found: list[Pixels] = []

    def run() -> None:
        # It prints a line for each tile.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123
            found[:] = [upsampler.enhance(bgr)[0]]

    return Ready(run, lambda: np.ascontiguousarray(found[0][..., ::-1]), 1, {})


def compiled(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack) -> Ready:
    """torch.compile of the plain network, channels-last, from and to the host."""
    ready = compiled_network(case, image, device, stack)
    pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    found: list[Pixels] = []

    def run() -> None:
        pinned.numpy()[...] = image
        found[:] = [ready.run(pinned.to(device, non_blocking=True)[None])[0].cpu().numpy()]

    return Ready(run, lambda: found[0], 1, ready.notes)


def compiled_network(case: CardCase, image: Pixels, device: torch.device, stack: ExitStack) -> Ready:
    """torch.compile of the plain network, channels-last, on the device."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    plain: Any = build_network(spec_of(case.model).architecture, state_of(case.model))
    plain = plain.to(device, dtype, memory_format=torch.channels_last)
    # "eager" compiles nothing: on a CPU this is only tried out.
    backend = "inductor" if device.type == "cuda" else "eager"
    network = torch.compile(plain, backend=backend, dynamic=False)
    stack.callback(torch.compiler.reset)
    kept = torch.from_numpy(image)[None].to(device)
    found: list[torch.Tensor] = []

    def run(integers: torch.Tensor = kept) -> torch.Tensor:
        with torch.inference_mode(), _benchmark():
            planes = network(from_integers(integers, dtype))
            rounded = (planes.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
            found[:] = [rounded.permute(0, 2, 3, 1).contiguous()]
        return found[0]

    return Ready(run, lambda: found[0][0].cpu().numpy(), 1, {"backend": backend})


@contextlib.contextmanager
def _benchmark() -> Any:
    """With cuDNN's search for the fastest kernels, as one would run it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def truth(case: CardCase, image: Pixels, device: torch.device) -> Pixels:
    """The whole image in fp32, without TF32."""
    torch.backends.cudnn.allow_tf32 = False
    network: Any = build_network(spec_of(case.model).architecture, state_of(case.model)).to(device)
    integers = torch.from_numpy(image)[None].to(device)
    with torch.inference_mode():
        planes = network(from_integers(integers, torch.float32).contiguous())
        rounded = (planes.clamp_(0, 1) * 255 + 0.5).to(torch.uint8)
    result: Pixels = rounded[0].permute(1, 2, 0).contiguous().cpu().numpy()
    return result


Prepare = Callable[[CardCase, Pixels, torch.device, ExitStack], Ready]

HOST: dict[str, tuple[str, Prepare]] = {
    "engine": ("upscaled, one image at a time", engine_alone),
    "engine_together": ("upscaled, several at a time", engine_together),
    "compiled": ("torch.compile, fp16 channels-last", compiled),
    "realesrganer": ("RealESRGANer, half precision", realesrganer),
}
"""From and to the host."""

DEVICE: dict[str, tuple[str, Prepare]] = {
    "engine_network": ("upscaled, the network alone", engine_network),
    "compiled_network": ("torch.compile, the network alone", compiled_network),
}
"""On the device."""
