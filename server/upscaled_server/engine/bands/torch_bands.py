"""Bands on torch, for CPUs where ncnn is not installed. Tensors are (1, channels, rows, columns),
channels-last, and what an operation reads of the joined rows is a view of them.

A convolution sees exactly the rows that it would see in the whole image, zero rows included, so in fp32 the
results are those of the whole image.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.base import full_scale
from upscaled_server.engine.backends.torch_backend import to_integers, typed_errors
from upscaled_server.engine.bands.flow import Reader, Work
from upscaled_server.engine.bands.graph import IMAGE, LEAKY_SLOPE, Op, stream_graph
from upscaled_server.engine.bands.network import Band, Carried
from upscaled_server.errors import ProcessingFailed

Tensors = dict[str, torch.Tensor]

# Below about 240 pixels oneDNN divides the sums of a convolution in another way than above: an image's first
# and last bands would be rounded otherwise than the whole.
_LEAST_PIXELS = 512


class TorchBands:
    """See `BandNetwork`. `state`: the network's tensors by their upstream names, in fp32."""

    precision = "fp32"

    def __init__(self, state: dict[str, Any], architecture: Architecture) -> None:
        self.graph = stream_graph(architecture)
        self._tensors: Tensors | None = {name: self._weight(value) for name, value in state.items()}
        self._lock = threading.Lock()

    def run(self, band: Band, work: Work, carried: Carried) -> None:
        tensors = self._tensors
        if tensors is None:
            raise ProcessingFailed("the network has been unloaded")
        # One at a time: torch's threads work inside a segment.
        with self._lock, torch.inference_mode(), typed_errors():
            if torch.get_num_threads() != band.threads:
                torch.set_num_threads(band.threads)
            _Segment(self, tensors, band, work, carried).run()

    def store(self, band: Band, out: NDArray[Any]) -> None:
        height, width, _ = out.shape
        with torch.inference_mode(), typed_errors():
            planes = band.blobs[self.graph.output][0, :, :height, :width]
            out[...] = to_integers(planes, out).numpy()

    def bytes_of(self, values: Iterable[Any]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in values)

    def close(self) -> None:
        """Free the weights. Calling it twice is harmless; `run` must not be running."""
        self._tensors = None

    def image(self, rows: NDArray[Any], above: int, below: int) -> torch.Tensor:
        """(n, w, 3) uint8 or uint16 as a tensor of values in 0..1, with zero rows added."""
        tensor = torch.from_numpy(np.ascontiguousarray(rows))
        image = tensor.permute(2, 0, 1).unsqueeze(0).to(torch.float32) / full_scale(rows.dtype)
        if above or below:
            image = F.pad(image, (0, 0, above, below))
        return image.contiguous(memory_format=torch.channels_last)

    def zeros(self, channels: int, rows: int, columns: int) -> torch.Tensor:
        return torch.zeros((1, channels, rows, columns)).contiguous(memory_format=torch.channels_last)

    def _weight(self, value: Any) -> torch.Tensor:
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


class _Segment:
    """One segment of one band. Commits what it made only when all of it is there."""

    def __init__(
        self, network: TorchBands, tensors: Tensors, band: Band, work: Work, carried: Carried
    ) -> None:
        self._network = network
        self._tensors = tensors
        self._band = band
        self._work = work
        self._carried = carried
        self._joined: Tensors = {}
        self._kept: Tensors = {}
        self._made: Tensors = {}

    def run(self) -> None:
        work, band, graph = self._work, self._band, self._network.graph
        ops = graph.segments[work.segment]
        for blob in work.joins:
            if graph.produced_in[blob] != work.segment:
                self._join(blob, band.blobs.get(blob))
        for op in ops if work.runs else ():
            sources = [self._source((op.name, number)) for number in range(len(op.edges))]
            self._made[op.name] = result = self._compute(op, sources)
            if op.name in work.joins:
                self._join(op.name, result)
        band.commit(graph, work, self._carried, kept=self._kept, made=self._made)

    def _join(self, blob: str, new: torch.Tensor | None) -> None:
        """Put together the carried rows, the new ones (if there are any) and the zero row below."""
        join, network = self._work.joins[blob], self._network
        held = self._carried.get((self._work.segment, blob))
        channels, columns = network.graph.channels[blob], network.graph.columns(blob, self._band.width)
        if held is None and join.held:
            held = network.zeros(channels, join.held, columns)
        below = network.zeros(channels, join.below, columns) if join.below else None
        parts = [part for part in (held, new, below) if part is not None]
        joined = torch.cat(parts, 2) if len(parts) > 1 else parts[0]
        self._joined[blob] = joined
        if join.kept:
            end = join.held + join.new
            # A copy: a view would keep all of the joined rows in memory.
            kept = joined[:, :, end - join.kept : end]
            self._kept[blob] = kept.clone(memory_format=torch.channels_last)

    def _source(self, reader: Reader) -> torch.Tensor:
        blob = self._network.graph.blob_of[reader]
        if blob == IMAGE:
            return self._network.image(*self._band.image_rows(*self._work.image_rows[reader]))
        if blob in self._joined:
            offset, rows = self._work.parts[reader]
            return self._joined[blob][:, :, offset : offset + rows]
        found = self._made.get(blob)
        return self._band.blobs[blob] if found is None else found

    def _compute(self, op: Op, sources: list[torch.Tensor]) -> torch.Tensor:
        if op.kind == "conv":
            return self._conv(op, sources)
        if op.kind == "add":
            first, second = sources
            return second + first * op.factor if op.factor != 1 else second + first
        factor = int(op.factor)
        if op.kind == "add_enlarged":
            return sources[0] + F.interpolate(sources[1], scale_factor=factor, mode="nearest")
        if op.kind == "enlarge":
            return F.interpolate(sources[0], scale_factor=factor, mode="nearest")
        if op.kind == "shuffle":
            return F.pixel_shuffle(sources[0], factor)
        return F.pixel_unshuffle(sources[0], factor)

    def _conv(self, op: Op, sources: list[torch.Tensor]) -> torch.Tensor:
        source = torch.cat(sources, 1) if len(sources) > 1 else sources[0]
        weight, bias = self._tensors[f"{op.tensor}.weight"], self._tensors[f"{op.tensor}.bias"]
        # Zero columns to both sides; the rows above and below are there, zero ones where the image ends.
        result = _convolved(source, weight, bias)
        if op.activation == "leaky":
            return F.leaky_relu(result, LEAKY_SLOPE, inplace=True)
        if op.activation == "prelu":
            return F.prelu(result, self._tensors[op.slopes])
        return result


def _convolved(source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A convolution that pads columns, not rows, and sums up every row as that of a whole image does."""
    rows, columns = source.shape[2] - 2, source.shape[3]
    missing = -(-_LEAST_PIXELS // columns) - rows
    if missing <= 0:
        return F.conv2d(source, weight, bias, padding=(0, 1))
    return F.conv2d(F.pad(source, (0, 0, 0, missing)), weight, bias, padding=(0, 1))[:, :, :rows]
