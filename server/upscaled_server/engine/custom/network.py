"""Running a network of spandrel's on a CPU as the torch backend runs those of the catalogue."""

from __future__ import annotations

from typing import Any

from upscaled_server.engine.backends.torch_backend import TorchNetwork


class CustomNetwork(TorchNetwork):
    """See `LoadedNetwork`. `network` is spandrel's descriptor, on the CPU in fp32."""

    def __init__(self, network: Any) -> None:
        self._place(network.model, int(network.scale))
        # Called through its descriptor, which knows how; many of these architectures want plain strides.
        self._network = lambda image: network(image.contiguous())
