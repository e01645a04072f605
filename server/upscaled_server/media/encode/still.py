"""A whole image to a file at once, in the calling thread: what tiles are made with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.encode.encoder import open_encoder
from upscaled_server.media.encode.options import EncodeOptions
from upscaled_server.media.info import Metadata

_T = TypeVar("_T")


class _Here(Executor):
    """Runs what is submitted at once, in the caller's thread."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        future: Future[_T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # as the executors of the standard library do
            future.set_exception(error)
        return future


def encode_image(
    pixels: NDArray[np.generic], format: str, options: EncodeOptions, metadata: Metadata | None = None
) -> bytes:
    """The file of (height, width, 1..4 planes) pixels, uint8 or uint16. Raises as `open_encoder` does."""
    height, width, planes = pixels.shape
    encoder = open_encoder(
        format,
        width=width,
        height=height,
        channels=1 if planes < 3 else 3,
        has_alpha=planes in (2, 4),
        bits=pixels.dtype.itemsize * 8,
        options=options,
        metadata=metadata or Metadata(),
        executor=_Here(),
    )
    parts = [encoder.begin()]
    for futures in (encoder.write(pixels), encoder.finish()):
        parts += [future.result() for future in futures]
    return b"".join(parts)
