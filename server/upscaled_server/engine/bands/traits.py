"""What the planner must know of a network that is run in bands."""

from __future__ import annotations

from upscaled_server.engine.architectures import Compact, Rrdb
from upscaled_server.engine.bands.graph import stream_graph
from upscaled_server.engine.catalogue import Spec
from upscaled_server.engine.device import Device
from upscaled_server.tiling.plan import BandTraits

# Measured as a process's peak with one, two and four threads, for each pixel of the trunk in as many bands.
# Most of an RRDB band's memory is its tail, which has 16 pixels of 64 channels for one of the trunk.
_NCNN_BYTES = {"compact": 2_800, "rrdb": 22_000}
# Likewise, for each column of the trunk in each band in flight: of the rows that are read with a band's own.
_NCNN_COLUMN_BYTES = {"compact": 0, "rrdb": 90_000}
_TORCH_BYTES = {"compact": 3_000, "rrdb": 34_000}

# A segment is one convolution of a compact network, and up to five of an RRDB one.
_SECONDS_PER_SEGMENT = {"compact": 1e-4, "rrdb": 4e-4}


def band_traits(spec: Spec, device: Device) -> BandTraits | None:
    """None for networks and backends that do not stream."""
    architecture = spec.architecture
    if not isinstance(architecture, Compact | Rrdb) or device.backend not in ("ncnn", "torch"):
        return None
    graph = stream_graph(architecture)
    family = "rrdb" if isinstance(architecture, Rrdb) else "compact"
    size = (_NCNN_BYTES if device.backend == "ncnn" else _TORCH_BYTES)[family] // architecture.multiple**2
    carried = 4 * graph.carried_values_per_column
    if device.backend == "ncnn":
        carried += _NCNN_COLUMN_BYTES[family] * (device.parallel + 1) / architecture.multiple
    if device.precision != "fp32":
        size, carried = size // 2, carried / 2
    return BandTraits(
        lag_rows=graph.lag_rows,
        segments=len(graph.segments),
        bytes_per_input_pixel=size,
        carried_bytes_per_column=round(carried),
        seconds_per_segment=_SECONDS_PER_SEGMENT[family],
        threads_inside=device.backend == "torch",
        # The weights of an RRDB network are kept once, in the form that every size can use.
        only=device.backend == "ncnn" and family == "rrdb",
    )
