"""What the planner must know of a network that nobody described: `python -m …custom.measure FILE BYTES`.

Loads the file, measures, prints one line of JSON: the numbers of `Measured`, or `{"refused": why}`. Run as a
process of its own, since it needs torch, time and memory that a server must not lose. BYTES bounds the
memory.

The context that a piece needs is measured as it is used: a picture is computed whole, and again cut off at
its left and at its top. How far from the cut the two still differ by more than 0.1 of 255 is the halo.
Networks that look at the whole picture (global attention) never agree; they are refused, since no cut of a
large image could be exact.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upscaled_server.engine.custom.load import load_custom
from upscaled_server.engine.weights.files import read_bounded
from upscaled_server.errors import DomainError, WeightsRejected
from upscaled_server.media.codec.sandbox import prefer_as_victim

_TOLERANCE = 0.1 / 255
# Distances from the cut that are looked at, one after the other until one suffices, in input pixels.
_REACHES = (48, 96, 192, 384)
# At the far end the picture's own border begins, so what comes this near to it may reach further.
_CERTAIN = 0.75
# How often the multiple is doubled in search of the one that cuts must have.
_DOUBLINGS = 6
# Across the cut only a few pixels are needed; a window of attention should fit.
_ACROSS = 32
# Beyond what was seen, since other pictures may reach a little further.
_MARGIN = 1.15
_SPEED_SIDE = 96
_BYTES_MARGIN = 1.5
# So that it ends even where the server that waits for it is gone.
_MAX_CPU_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one file, by its hash. Seconds are of one core for an input pixel, bytes the growth of the process
    for an input pixel of a piece."""

    sha256: str
    size_bytes: int
    architecture: str
    scale: int
    halo: int
    multiple: int
    min_size: int
    seconds_per_pixel: float
    bytes_per_pixel: int


def measure(path: Path) -> Measured:
    """Raises `WeightsRejected`, `FailedPrecondition`."""
    data = read_bounded(path)
    network = load_custom(data, path.suffix, path.name)
    needs = network.size_requirements
    multiple, min_size = max(1, needs.multiple_of), max(1, needs.minimum)
    halo, multiple = measure_context(network, multiple, min_size, path.name)
    seconds, size = _cost(network, multiple, min_size)
    return Measured(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        architecture=str(network.architecture.name),
        scale=int(network.scale),
        halo=halo,
        multiple=multiple,
        min_size=min_size,
        seconds_per_pixel=seconds,
        bytes_per_pixel=size,
    )


def measure_context(network: Any, multiple: int, min_size: int, origin: str) -> tuple[int, int]:
    """The halo in input pixels, and the multiple that positions of cuts must have: what the network says
    (`multiple`), or twice that, and so on, since networks with windows of attention do not say so.

    Raises `WeightsRejected`.
    """
    for reach in _REACHES:
        for doublings in range(_DOUBLINGS + 1):
            grid = multiple << doublings
            if grid > reach:
                break
            seen = max(_distance(network, grid, min_size, reach, vertical) for vertical in (False, True))
            if seen < reach * _CERTAIN:
                return math.ceil(seen * _MARGIN / grid) * grid, grid
    raise WeightsRejected(
        f"{origin} looks further than {_REACHES[-1] * _CERTAIN:.0f} pixels: its result depends on how an "
        "image is cut"
    )


def _distance(network: Any, grid: int, min_size: int, reach: int, vertical: bool) -> int:
    """How many input pixels from a cut the result still differs from that of the whole picture."""
    import torch

    # An odd multiple, so that nothing holds by the chance of a rounder number.
    cut = (math.ceil(reach / grid) | 1) * grid
    length = cut + math.ceil(max(reach, min_size) / grid) * grid
    across = math.ceil(max(_ACROSS, min_size) / grid) * grid
    picture = _picture(across, length)
    if vertical:
        picture = picture.transpose(2, 3).contiguous()
    whole = network(picture)
    part = network((picture[:, :, cut:] if vertical else picture[:, :, :, cut:]).contiguous())
    scale = network.scale
    same = whole[:, :, cut * scale :] if vertical else whole[:, :, :, cut * scale :]
    difference = (same - part).abs()
    if not torch.isfinite(difference).all():
        raise WeightsRejected("the network gives numbers that are not finite")
    worst = difference.amax((0, 1, 3 if vertical else 2))
    off = torch.nonzero(worst > _TOLERANCE)
    return 0 if not len(off) else int(off.max()) // scale + 1


def _picture(height: int, width: int) -> Any:
    """(1, 3, height, width) in 0..1: gradients, edges and noise, always the same."""
    import torch

    generator = torch.Generator().manual_seed(5)
    y = torch.arange(height).view(1, height, 1)
    x = torch.arange(width).view(1, 1, width)
    plane = torch.arange(3).view(3, 1, 1)
    waves = 0.5 + 0.3 * torch.sin(x / (3.0 + plane)) * torch.cos(y / (5.0 + plane))
    edges = 0.3 * ((x // 11 + y // 7) % 2)
    noise = 0.2 * torch.rand(3, height, width, generator=generator)
    return (waves * 0.6 + edges + noise).clamp(0, 1).unsqueeze(0)


def _cost(network: Any, multiple: int, min_size: int) -> tuple[float, int]:
    import torch

    side = math.ceil(max(_SPEED_SIDE, min_size) / multiple) * multiple
    picture = _picture(side, side)
    before = _peak()
    network(picture)
    grown = _peak() - before
    began = time.perf_counter()
    network(picture)
    seconds = (time.perf_counter() - began) * torch.get_num_threads()
    # Smaller pieces were computed before, so the growth is what is beyond them.
    needed = max(grown, 3 * 4 * 64 * side**2)
    return seconds / side**2, int(needed * _BYTES_MARGIN / side**2)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that there is no memory left."""
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    # What libraries print must not get between us and the reader.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.nice(10)
    prefer_as_victim()
    path, memory = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_SECONDS, _MAX_CPU_SECONDS))
    # Not RLIMIT_AS: most of torch's address space is mapped libraries, and room that is never used.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        answer: dict[str, Any] = asdict(measure(path))
    except (DomainError, MemoryError, RuntimeError) as error:
        if ran_out_of_memory(error):
            answer = {"refused": f"{path.name} needs more than {memory >> 20} MiB to be measured"}
        elif isinstance(error, DomainError):
            answer = {"refused": error.message}
        else:
            raise
    out.write(json.dumps(answer))
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
