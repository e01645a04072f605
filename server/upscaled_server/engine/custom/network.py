"""Running a network of spandrel's as the torch backend runs those of the catalogue."""

from __future__ import annotations

from typing import Any

from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.device import DeviceKind, Precision


class CustomNetwork(TorchNetwork):
    """See `LoadedNetwork`. `network` is spandrel's descriptor, on the CPU in fp32."""

    def __init__(self, network: Any, *, kind: DeviceKind = "cpu", precision: Precision = "fp32") -> None:
        if precision == "fp16" and not network.supports_half:
            precision = "fp32"
        self._place(network.model, int(network.scale), kind, precision)
        # Called through its descriptor, which knows how; many of these architectures want plain strides.
        self._network = lambda image: network(image.contiguous())
