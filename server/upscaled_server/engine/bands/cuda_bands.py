"""Bands on a CUDA card. Tensors are (1, channels, rows, columns), channels-last; rows of such a tensor lie
one behind the other in memory, so a view of some rows is as good as a tensor of its own.

What later bands read again stands in one buffer for each blob: carried rows, the new ones, and at the
image's end a row of zeros. Operations write their rows to its middle, so nothing is put together
afterwards. Every buffer is convolved once, with the weights of all its readers side by side
(`networks/wide.py`), and each reader adds up the rows and channels that are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.cuda.fused import Epilogue, Ops, Raw, Residual, from_integers
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.backends.cuda.precision import DTYPES
from upscaled_server.engine.backends.torch_backend import is_out_of_memory
from upscaled_server.engine.bands.flow import Reader, Work
from upscaled_server.engine.bands.graph import IMAGE, Op, StreamGraph, stream_graph
from upscaled_server.engine.bands.network import Band, Carried
from upscaled_server.engine.device import Precision
from upscaled_server.engine.networks.wide import WideConv, widen
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import ProcessingFailed

Tensors = dict[str, torch.Tensor]


class CudaBands:
    """See `BandNetwork`. `overflowed` is told when results are not finite, and gives the error."""

    def __init__(
        self,
        state: StateDict,
        architecture: Architecture,
        lane: Lane,
        ops: Ops,
        precision: Precision,
        overflowed: Callable[[], Exception],
    ) -> None:
        self.graph = stream_graph(architecture)
        self.lane = lane
        self.ops = ops
        self.precision = precision
        self.dtype = DTYPES[precision]
        self.wide: dict[tuple[int, str], WideConv] = {}
        self.shares: dict[Reader, int] = {}
        self.epilogues: dict[str, Epilogue] = {}
        self._overflowed = overflowed
        self._closed = False
        with lane.working():
            self._place({name: torch.from_numpy(array) for name, array in state.items()})
            self._no_bias = torch.zeros(3, device=lane.device)

    def run(self, band: Band, work: Work, carried: Carried) -> None:
        if self._closed:
            raise ProcessingFailed("the network has been unloaded")
        with self.lane.working():
            try:
                _Segment(self, band, work, carried).run()
            except RuntimeError as error:
                if is_out_of_memory(error):
                    self.lane.make_room()  # for the lower bands that will be tried
                raise
            self.lane.throttle()

    def store(self, band: Band, out: NDArray[Any]) -> None:
        height, width, planes = out.shape
        overflow = np.empty(1, np.int32)
        with self.lane.working():
            values = band.blobs[self.graph.output][:, :, :height]
            image = torch.empty((1, height, 0, 3), dtype=torch.uint8, device=self.lane.device)
            pixels, bad = self.ops.to_pixels(
                Raw(values, self._no_bias), image, 8 * out.dtype.itemsize, planes
            )
            try:
                waiting = [
                    self.lane.download(pixels[0, :, :width].contiguous(), out),
                    self.lane.download(bad, overflow),
                ]
                for wait in waiting:
                    wait()
            except BaseException:  # an interrupt too: nothing may write to `out` any more
                self.lane.synchronize()
                raise
        if overflow[0]:
            raise self._overflowed()

    def bytes_of(self, values: Iterable[Any]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in values)

    def close(self) -> None:
        """Free the weights. Calling it twice is harmless; `run` must not be running."""
        self._closed = True
        self.wide.clear()
        self.epilogues.clear()

    def _place(self, tensors: Tensors) -> None:
        device = self.lane.device
        for index, segment in enumerate(self.graph.segments):
            readers: dict[str, list[torch.Tensor]] = {}
            for op in segment:
                if op.kind != "conv":
                    continue
                bias, slopes = tensors[f"{op.tensor}.bias"], tensors.get(op.slopes)
                self.epilogues[op.name] = Epilogue(
                    bias.to(device), op.activation, None if slopes is None else slopes.to(device)
                )
                first = 0
                for number, edge in enumerate(op.edges):
                    channels = self.graph.channels[edge.blob]
                    weights = readers.setdefault(edge.blob, [])
                    self.shares[op.name, number] = len(weights)
                    weights.append(tensors[f"{op.tensor}.weight"][:, first : first + channels])
                    first += channels
            for blob, weights in readers.items():
                wide = widen(weights)
                weight = wide.weight.to(device, self.dtype, memory_format=torch.channels_last)
                self.wide[index, blob] = WideConv(weight, wide.starts)


class _Segment:
    """One segment of one band. Commits what it made only when all of it has been queued."""

    def __init__(self, network: CudaBands, band: Band, work: Work, carried: Carried) -> None:
        self._network = network
        self._graph: StreamGraph = network.graph
        self._band = band
        self._work = work
        self._carried = carried
        self._joined: Tensors = {}
        self._partials: Tensors = {}
        self._made: Tensors = {}

    def run(self) -> None:
        work, graph, band = self._work, self._graph, self._band
        ops = graph.segments[work.segment]
        for blob in work.joins:
            if graph.produced_in[blob] != work.segment:
                new = band.blobs.get(blob)
                room = self._reserve(blob)
                if new is not None:
                    room.copy_(new)
        number = 0
        while work.runs and number < len(ops):
            number += self._compute(ops, number)
        if not work.runs:
            for blob in work.joins:
                if blob not in self._joined:
                    self._reserve(blob)
        kept = {blob: self._kept(blob) for blob, join in work.joins.items() if join.kept}
        band.commit(graph, work, self._carried, kept=kept, made=self._made)

    def _reserve(self, blob: str) -> torch.Tensor:
        """The buffer of a blob, with its carried rows and the zero row below; the view that new rows go
        to."""
        join, network = self._work.joins[blob], self._network
        channels, columns = self._graph.channels[blob], self._graph.columns(blob, self._band.width)
        joined = torch.empty(
            (1, channels, join.rows, columns),
            dtype=network.dtype,
            device=network.lane.device,
            memory_format=torch.channels_last,
        )
        held = self._carried.get((self._work.segment, blob))
        if join.held:
            part = joined[:, :, : join.held]
            part.zero_() if held is None else part.copy_(held)
        if join.below:
            joined[:, :, join.held + join.new :].zero_()
        self._joined[blob] = joined
        return joined[:, :, join.held : join.held + join.new]

    def _kept(self, blob: str) -> torch.Tensor:
        join = self._work.joins[blob]
        end = join.held + join.new
        # A copy: a view would keep all of the buffer in memory.
        return self._joined[blob][:, :, end - join.kept : end].clone(memory_format=torch.channels_last)

    def _compute(self, ops: tuple[Op, ...], number: int) -> int:
        """One operation, together with the additions that directly follow a convolution; how many that
        were."""
        op = ops[number]
        if op.kind != "conv":
            self._yield(op, self._pointwise(op))
            return 1
        parts, last, residuals, count = self._parts(op), op, list[Residual](), 1
        for following in ops[number + 1 :]:
            first = following.edges[0]
            if (
                following.kind != "add"
                or first.blob != last.name
                or not self._graph.is_direct(following, first)
            ):
                break
            # `add` is first * factor + second.
            residuals.append((self._source((following.name, 1)), following.factor))
            last = following
            count += 1
        out = self._reserve(last.name) if last.name in self._work.joins else None
        epilogue = self._network.epilogues[op.name]
        self._made[last.name] = self._network.ops.join(parts, epilogue, residuals, out)
        return count

    def _yield(self, op: Op, result: torch.Tensor) -> None:
        if op.name in self._work.joins:
            result = self._reserve(op.name).copy_(result)
        self._made[op.name] = result

    def _parts(self, op: Op) -> list[torch.Tensor]:
        """The convolution's share of every input's partial convolution."""
        parts = []
        for number, edge in enumerate(op.edges):
            reader = (op.name, number)
            wide = self._network.wide[self._work.segment, edge.blob]
            if edge.blob not in self._partials:
                source = self._image(reader) if edge.blob == IMAGE else self._joined[edge.blob]
                # Zero columns to both sides; the rows above and below are there.
                self._partials[edge.blob] = F.conv2d(source, wide.weight, padding=(0, 1))
            share = wide.share(self._partials[edge.blob], self._network.shares[reader])
            if edge.blob != IMAGE:
                offset, rows = self._work.parts[reader]
                share = share[:, :, offset : offset + rows - 2]
            parts.append(share)
        return parts

    def _pointwise(self, op: Op) -> torch.Tensor:
        sources = [self._source((op.name, number)) for number in range(len(op.edges))]
        factor = int(op.factor)
        if op.kind == "add":
            return sources[1] + sources[0] * op.factor
        if op.kind == "add_enlarged":
            return sources[0] + F.interpolate(sources[1], scale_factor=factor, mode="nearest")
        if op.kind == "enlarge":
            return F.interpolate(sources[0], scale_factor=factor, mode="nearest")
        if op.kind == "shuffle":
            shuffled = F.pixel_shuffle(sources[0], factor)
        else:
            shuffled = F.pixel_unshuffle(sources[0], factor)
        return shuffled.contiguous(memory_format=torch.channels_last)

    def _source(self, reader: Reader) -> torch.Tensor:
        blob = self._graph.blob_of[reader]
        if blob == IMAGE:
            return self._image(reader)
        if blob in self._joined:
            offset, rows = self._work.parts[reader]
            return self._joined[blob][:, :, offset : offset + rows]
        found = self._made.get(blob)
        return self._band.blobs[blob] if found is None else found

    def _image(self, reader: Reader) -> torch.Tensor:
        rows, above, below = self._band.image_rows(*self._work.image_rows[reader])
        image = from_integers(self._network.lane.upload([rows]), self._network.dtype)
        if above or below:
            image = F.pad(image, (0, 0, above, below)).contiguous(memory_format=torch.channels_last)
        return image
