"""The two network families of Real-ESRGAN, as numbers: what a weight file must hold, and how far a pixel
sees.

Nothing here computes. `networks/` builds the torch modules from these numbers, `weights/ncnn/write.py`
the ncnn graphs; both name their tensors as the upstream `.pth` files do.
"""

from __future__ import annotations

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Compact:
    """SRVGGNetCompact: `convs` + 2 convolutions of 3x3 at input resolution, each but the last with a PReLU,
    a pixel shuffle, and the nearest-neighbour enlargement of the input added at the end."""

    convs: int
    features: int = 64
    scale: int = 4

    def __str__(self) -> str:
        return f"SRVGGNetCompact, {self.convs} convolutions, x{self.scale}"

    @property
    def multiple(self) -> int:
        """Input sizes must be multiples of this."""
        return 1

    @property
    def receptive_field(self) -> int:
        """Input pixels to each side that can influence an output pixel."""
        return self.convs + 2

    def shapes(self) -> Shapes:
        """Every tensor by its upstream name, in the order in which the network uses them."""
        shapes: Shapes = {}
        last = 2 * (self.convs + 1)
        for index in range(0, last, 2):
            inputs = 3 if index == 0 else self.features
            shapes[f"body.{index}.weight"] = (self.features, inputs, 3, 3)
            shapes[f"body.{index}.bias"] = (self.features,)
            shapes[f"body.{index + 1}.weight"] = (self.features,)
        outputs = 3 * self.scale * self.scale
        shapes[f"body.{last}.weight"] = (outputs, self.features, 3, 3)
        shapes[f"body.{last}.bias"] = (outputs,)
        return shapes


@dataclass(frozen=True, slots=True)
class Rrdb:
    """RRDBNet: a trunk of `blocks` residual-in-residual dense blocks, then two nearest x2 enlargements with
    convolutions.

    The net itself always enlarges by 4. For a scale of 2 (or 1) the image is first pixel-unshuffled by 2 (or
    4), so that one pixel of the trunk stands for `unshuffle` x `unshuffle` pixels of the image.
    """

    blocks: int
    scale: int = 4
    features: int = 64
    growth: int = 32

    def __str__(self) -> str:
        return f"RRDBNet, {self.blocks} blocks, x{self.scale}"

    @property
    def unshuffle(self) -> int:
        return 4 // self.scale

    @property
    def multiple(self) -> int:
        """Input sizes must be multiples of this."""
        return self.unshuffle

    @property
    def receptive_field(self) -> int:
        """Input pixels to each side that can influence an output pixel: far more than matter in practice."""
        trunk = 1 + self.blocks * 3 * 5 + 1
        tail = 2
        return (trunk + tail) * self.unshuffle

    def shapes(self) -> Shapes:
        """Every tensor by its upstream name, in the order in which the network uses them."""
        shapes: Shapes = {}

        def conv(name: str, inputs: int, outputs: int) -> None:
            shapes[f"{name}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{name}.bias"] = (outputs,)

        f, g = self.features, self.growth
        conv("conv_first", 3 * self.unshuffle**2, f)
        for block in range(self.blocks):
            for dense in (1, 2, 3):
                for layer in range(1, 5):
                    conv(f"body.{block}.rdb{dense}.conv{layer}", f + (layer - 1) * g, g)
                conv(f"body.{block}.rdb{dense}.conv5", f + 4 * g, f)
        conv("conv_body", f, f)
        for name in ("conv_up1", "conv_up2", "conv_hr"):
            conv(name, f, f)
        conv("conv_last", f, 3)
        return shapes


@dataclass(frozen=True, slots=True)
class Custom:
    """A network that spandrel knows, in a file of the operator's: only what it says of itself."""

    kind: str
    scale: int
    multiple: int
    min_size: int

    def __str__(self) -> str:
        return f"{self.kind}, x{self.scale}"


Architecture = Compact | Rrdb
