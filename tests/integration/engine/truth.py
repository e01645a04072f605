"""What the tests of exactness share: the plain network as the truth, a run from its first row to its last,
and the promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.benchmarks.contest.driving import rows_of

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.run import Run
from upscaled_server.engine.weights.store import LoadedWeights

Load = Callable[[str], LoadedWeights]
Photo = Callable[[int, int], NDArray[np.uint8]]
Network = NcnnNetwork | TorchNetwork
Networks = Callable[[str, str], Network]
"""By a model's name and a backend's."""
Truth = Callable[[str, NDArray[Any]], NDArray[np.float32]]

VIDEO, GENERAL, ANIME, X4, X2 = (
    "real-esrgan-animevideo-v3",
    "real-esrgan-x4-v3",
    "real-esrgan-x4-plus-anime",
    "real-esrgan-x4-plus",
    "real-esrgan-x2-plus",
)


def whole_image(
    network: Callable[[torch.Tensor], torch.Tensor],
    architecture: Architecture,
    image: NDArray[Any],
    layout: torch.memory_format = torch.contiguous_format,
) -> NDArray[np.float32]:
    """The plain network on the image at once, padded to its multiple as upstream does: mirrored, where there
    is something to mirror. In 0..1, not rounded."""
    multiple, scale = architecture.multiple, architecture.scale
    height, width, _ = image.shape
    if height % multiple:
        image = np.concatenate([image, image[-2:-1] if height > 1 else image])
    if width % multiple:
        image = np.concatenate([image, image[:, -2:-1] if width > 1 else image], 1)
    tensor = torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None]
    with torch.inference_mode():
        planes = network(tensor.contiguous(memory_format=layout))[0]
    values: NDArray[np.float32] = np.clip(planes.permute(1, 2, 0).numpy(), 0, 1)
    return values[: height * scale, : width * scale]


def rounded(values: NDArray[np.float32], bits: int = 8) -> NDArray[np.float32]:
    """Values in 0..1 as integers of so many bits, half up."""
    result: NDArray[np.float32] = np.floor(values * np.float32(2**bits - 1) + np.float32(0.5))
    return result


def driven(run: Run, image: NDArray[Any], chunk: int = 0) -> NDArray[Any]:
    """All rows of a run that is fed what it wants, or at least `chunk` rows at a time. Closes it."""
    rows, fed, steps = [], 0, 0
    while not run.done:
        wanted = max(chunk, run.rows_wanted) if run.rows_wanted else 0
        if run.rows_wanted and run.plan.way == "bands":
            assert fed + run.rows_wanted <= run.plan.rows_for_step(steps + 1)
        run.feed(image[fed : fed + wanted])
        fed = min(len(image), fed + wanted)
        rows.append(run.step())
        steps += 1
    assert steps == run.plan.steps
    run.close()
    return np.concatenate(rows)


def driven_overlapping(run: Run, image: NDArray[Any]) -> NDArray[Any]:
    """All rows of a run in bands, each step called as soon as the one before leaves a core. Closes it."""
    rows = list(rows_of(run, image))
    assert run.done
    assert run.state_bytes == 0
    run.close()
    return np.concatenate(rows)


def assert_promise(
    result: NDArray[Any], expected: NDArray[Any], *, share: float = 5e-4, few: int = 2
) -> None:
    """No value is off by more than 1, and no larger share of them is off at all.

    Of a small image `few` values may be more than the share.
    """
    assert result.shape == expected.shape
    difference = np.abs(result.astype(np.float64) - expected)
    assert difference.max() <= 1
    assert (difference > 0).sum() <= max(few, share * difference.size)
