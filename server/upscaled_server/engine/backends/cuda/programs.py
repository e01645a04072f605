"""The work for a shape as a CUDA graph: one launch in place of hundreds.

A graph is recorded when a shape comes again, after a run with cuDNN's benchmark, which finds the fastest
kernels for it: what comes once is not worth that. Graphs were taken over torch.compile because they add
nothing to the first run of a shape but their recording, while compiling takes many seconds for each, and
the passes that a compiler would join are joined already (`triton_kernels.py`).

All graphs of a network share one pool of memory, which is as large as the largest needs. So the memory of
one may be overwritten by another: inputs stand outside of the pool, and results are copied out of it right
behind the graph, on the same stream.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from upscaled_server.engine.backends.cuda.lane import Lane

log = logging.getLogger("upscaled_server.engine")

Compute = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

_MAX_GRAPHS = 8
_MAX_SHAPES_SEEN = 256
_RECORDED_AT_USE = 2
_NEVER = -(1 << 60)


@dataclass(slots=True)
class _Graph:
    graph: Any
    source: torch.Tensor
    results: tuple[torch.Tensor, ...]


class Programs:
    """Runs `compute` on inputs that stay on the device, by graph where there is one. Call it while
    `lane.working`. With `max_graphs` 0 nothing is recorded."""

    def __init__(self, lane: Lane, *, max_graphs: int = _MAX_GRAPHS) -> None:
        self._lane = lane
        self._max_graphs = max_graphs
        # By their last use, the latest at the end.
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._uses: OrderedDict[Hashable, int] = OrderedDict()
        self._pool: Any = None
        lane.remember(self)

    @property
    def recorded(self) -> tuple[Hashable, ...]:
        """The keys that have a graph, the least recently used first."""
        return tuple(self._graphs)

    def run(self, key: Hashable, source: torch.Tensor, compute: Compute) -> tuple[torch.Tensor, ...]:
        """What `compute(source)` gives: tensors that are the caller's. Equal keys mean equal shapes and
        types, and the same `compute`."""
        graph = self._graphs.get(key)
        if graph is None and self._is_due(key):
            graph = self._record(key, source, compute)
        if graph is None:
            return compute(source)
        self._graphs.move_to_end(key)
        graph.source.copy_(source)
        graph.graph.replay()
        return tuple(result.clone() for result in graph.results)

    def clear(self) -> None:
        """Drop every graph and its memory."""
        self._lane.synchronize()
        for graph in self._graphs.values():
            graph.graph.reset()
        self._graphs.clear()
        self._uses.clear()
        self._pool = None

    def _is_due(self, key: Hashable) -> bool:
        if not self._lane.cuda or not self._max_graphs:
            return False
        uses = self._uses[key] = self._uses.pop(key, 0) + 1
        if len(self._uses) > _MAX_SHAPES_SEEN:
            self._uses.popitem(last=False)
        return uses >= _RECORDED_AT_USE

    def _record(self, key: Hashable, source: torch.Tensor, compute: Compute) -> _Graph | None:
        """None where there is too little memory for a graph beside what is there, or the network does what
        graphs cannot."""
        while len(self._graphs) >= self._max_graphs:
            self._lane.synchronize()
            self._graphs.popitem(last=False)[1].graph.reset()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        kept = source.clone()
        try:
            with _benchmark():
                compute(kept)
                # "thread_local": models may be loaded in other threads meanwhile. The stream is the one that
                # replays, and the same for all, so that they can share the pool.
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._lane.compute,
                    capture_error_mode="thread_local",
                ):
                    results = compute(kept)
        except RuntimeError as error:  # OutOfMemoryError is one
            log.info("no CUDA graph for %s: %s", key, str(error).splitlines()[0])
            self._uses[key] = _NEVER
            self._lane.release_memory()
            return None
        found = self._graphs[key] = _Graph(graph, kept, results)
        return found


@contextmanager
def _benchmark() -> Iterator[None]:
    """Let cuDNN try its kernels. What it finds is kept for this shape, also while the graph is recorded."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
