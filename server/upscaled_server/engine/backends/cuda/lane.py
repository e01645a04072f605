"""One device as a lane with three streams: pixels come up on one, are computed on the second and go down on
the third, so that copies and arithmetic of different pieces overlap.

Memory is safe under this rule: a tensor belongs to the stream on which it was allocated, and every other
stream that uses it waits for an event first and is then made known with `record_stream`, so that the
allocator gives the memory away no sooner than that stream is done with it. Page-locked memory comes from
torch's caching host allocator, which likewise gives a block away only after the copies that used it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from upscaled_server.engine.backends.torch_backend import typed_errors

# Without types.
cuda: Any = torch.cuda

# Units of work that may be queued on the card before their submitter waits.
_AHEAD = 3


class Cache(Protocol):
    """What takes memory of the device only to be faster."""

    def clear(self) -> None: ...


class Lane:
    """A device, CUDA or (for the same arithmetic without streams) CPU. One thread at a time is `working`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self._lock = threading.RLock()
        self._queued: deque[Any] = deque()
        self._caches: weakref.WeakSet[Cache] = weakref.WeakSet()
        if self.cuda:
            # fp32 means fp32: without this, cuDNN rounds the factors of a convolution to 10 bits.
            torch.backends.cudnn.allow_tf32 = False
            self.compute: Any = cuda.Stream(device)
            self._up: Any = cuda.Stream(device)
            self._down: Any = cuda.Stream(device)

    @contextmanager
    def working(self) -> Iterator[None]:
        """The device and its computing stream are the current ones; others wait. Raises `OutOfMemory`,
        `ProcessingFailed`."""
        with self._lock, torch.inference_mode(), typed_errors():
            if not self.cuda:
                yield
                return
            with torch.cuda.device(self.device), torch.cuda.stream(self.compute):
                yield

    def upload(self, images: Sequence[NDArray[Any]]) -> torch.Tensor:
        """uint8 or uint16 images of one shape (h, w, 3), perhaps views, to the device as (n, h, w, 3): uint8,
        or int16 with the same bits. What is computed next waits for them; `images` may be changed at once."""
        shape, dtype = images[0].shape, images[0].dtype
        size, integers = (len(images), *shape), _TORCH[_signed(dtype)]
        locked = self._locked(size, integers)
        host = torch.empty(size, dtype=integers) if locked is None else locked
        for number, image in enumerate(images):
            host[number].numpy().view(dtype)[...] = image
        if not self.cuda:
            return host
        with torch.cuda.stream(self._up):
            tensor = host.to(self.device, non_blocking=locked is not None)
        self.compute.wait_event(self._up.record_event())
        tensor.record_stream(self.compute)
        return tensor

    def download(self, tensor: torch.Tensor, out: NDArray[Any]) -> Callable[[], None]:
        """Begin to copy integers that are being computed to `out` (uint8, uint16 for int16, or int32). The
        copy is complete when the function that is returned has been called, which waits for it; until then
        `out` must stay alive."""
        if not self.cuda:
            out[...] = tensor.numpy().view(out.dtype)
            return lambda: None
        direct = self._as_pinned(out, tensor.dtype)
        host = self._locked(tensor.shape, tensor.dtype) if direct is None else direct
        if host is None:
            host = torch.empty(tensor.shape, dtype=tensor.dtype)
        self._down.wait_event(self.compute.record_event())
        with torch.cuda.stream(self._down):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._down)
        # Waiting for a blocking event leaves the core to others.
        done = self._down.record_event(cuda.Event(blocking=True))

        def finish() -> None:
            done.synchronize()
            if direct is None:
                out[...] = host.numpy().view(out.dtype)

        return finish

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Memory for results: page-locked on a card, so that they arrive in it without another copy."""
        locked = self._locked(shape, _TORCH[_signed(dtype)])
        return np.empty(shape, dtype) if locked is None else locked.numpy().view(dtype)

    def throttle(self) -> None:
        """Mark a unit of work as queued, and wait while too many are: so that time is spent where it is
        measured, and other work finds its turn."""
        if self.cuda:
            self._queued.append(self.compute.record_event(cuda.Event(blocking=True)))
            if len(self._queued) > _AHEAD:
                self._queued.popleft().synchronize()

    def synchronize(self) -> None:
        """Wait for everything on all three streams."""
        if self.cuda:
            for stream in (self._up, self.compute, self._down):
                stream.synchronize()
            self._queued.clear()

    def remember(self, cache: Cache) -> None:
        """`make_room` clears it, as long as somebody holds it."""
        with self._lock:
            self._caches.add(cache)

    def make_room(self) -> None:
        """Clear every network's caches, and give their memory back to the device. Call it while `working`."""
        for cache in self._caches:
            cache.clear()
        self.release_memory()

    def release_memory(self) -> None:
        """Give cached memory back to the device, once nothing is running."""
        if self.cuda:
            self.synchronize()
            torch.cuda.empty_cache()

    def _locked(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor | None:
        """Page-locked memory on a card, unless the system's limit of it is reached: ordinary memory is slower
        and does as well."""
        if not self.cuda:
            return None
        try:
            with torch.cuda.device(self.device):
                return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
        except RuntimeError:
            return None

    def _as_pinned(self, out: NDArray[Any], dtype: torch.dtype) -> torch.Tensor | None:
        """`out` as a tensor, if the card can write to it."""
        if not out.flags.c_contiguous:
            return None
        tensor = torch.from_numpy(out.view(_signed(out.dtype)))
        return tensor if tensor.dtype == dtype and tensor.is_pinned() else None


# torch computes little with uint16, so its bits travel as int16.
_TORCH = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int16): torch.int16,
    np.dtype(np.int32): torch.int32,
}


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.int16) if dtype == np.uint16 else dtype


_lanes: dict[torch.device, Lane] = {}
_lanes_lock = threading.Lock()


def lane_of(device: torch.device) -> Lane:
    """The lane of a device, one in a process, so that all networks on it take turns."""
    with _lanes_lock:
        if device not in _lanes:
            _lanes[device] = Lane(device)
        return _lanes[device]
