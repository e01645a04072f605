"""A network in ncnn's format, in memory: read and checked, or written from a state dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.weights.ncnn.check import CheckedGraph, check_graph
from upscaled_server.engine.weights.ncnn.graph import format_graph, parse_graph
from upscaled_server.engine.weights.ncnn.tensors import read_tensors, write_tensors
from upscaled_server.engine.weights.ncnn.write import build_graph
from upscaled_server.engine.weights.state import StateDict, check_state


@dataclass(frozen=True, slots=True)
class NcnnModel:
    """The bytes of `.param` and `.bin`, which have passed every check, and the blobs that matter in them."""

    param: bytes
    bin: bytes
    graph: CheckedGraph

    @property
    def input(self) -> str:
        return self.graph.input

    @property
    def output(self) -> str:
        return self.graph.output

    @property
    def trunk_end(self) -> str | None:
        return self.graph.trunk_end


def read_ncnn(
    param: bytes, data: bytes, architecture: Architecture, origin: str
) -> tuple[NcnnModel, StateDict]:
    """The model of these files, and its tensors in the neutral form. Raises `WeightsRejected`."""
    graph = check_graph(parse_graph(param), architecture)
    state = check_state(read_tensors(data, graph.layers, architecture), architecture, origin)
    return NcnnModel(param, data, graph), state


def write_ncnn(
    state: StateDict, architecture: Architecture, precision: Literal["fp32", "fp16"] = "fp32"
) -> NcnnModel:
    """The model that computes with these tensors. Raises `WeightsRejected` if they are not of this
    architecture."""
    checked = check_state(state, architecture, "the state dict")
    layers = build_graph(architecture)
    return NcnnModel(
        format_graph(layers), write_tensors(checked, precision), check_graph(layers, architecture)
    )
