"""Encoding a whole array, cut into pieces of any height, on a real executor or a perverse one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata

Encode = Callable[..., bytes]


class LastFirstExecutor(Executor):
    """Runs what was submitted when it is told to, the latest first."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        while self._tasks:
            future, task = self._tasks.pop()
            future.set_result(task())


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture(scope="session")
def encode(pool: ThreadPoolExecutor) -> Encode:
    def encode(
        format: str,
        image: NDArray[np.generic],
        *,
        cut: int = 50,
        metadata: Metadata | None = None,
        executor: Executor | None = None,
        **options: Any,
    ) -> bytes:
        height, width, planes = image.shape
        encoder = open_encoder(
            format,
            width=width,
            height=height,
            channels=1 if planes < 3 else 3,
            has_alpha=planes in (2, 4),
            bits=image.dtype.itemsize * 8,
            options=EncodeOptions(**options),
            metadata=metadata or Metadata(),
            executor=executor or pool,
        )
        pieces = [encoder.begin()]
        futures = []
        for top in range(0, height, cut):
            futures += encoder.write(image[top : top + cut])
        futures += encoder.finish()
        if isinstance(executor, LastFirstExecutor):
            executor.run()
        return b"".join([*pieces, *(future.result(30) for future in futures)])

    return encode


@pytest.fixture
def last_first() -> LastFirstExecutor:
    return LastFirstExecutor()


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.generic]]:
    def picture(width: int, height: int, planes: int = 3, bits: int = 8) -> NDArray[np.generic]:
        """Gradients with a little noise, as photographs have."""
        rng = np.random.default_rng(41)
        y, x = np.mgrid[:height, :width]
        base = np.stack([(x * (plane + 1) + y * 2) / 9 for plane in range(planes)], axis=2)
        values = (base + rng.normal(0, 2, base.shape)) % 256
        scaled = values * (1 if bits == 8 else 256) + (0 if bits == 8 else rng.integers(0, 256, base.shape))
        image: NDArray[Any] = np.minimum(scaled, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)
        return image

    return picture
