"""`upscaled upscale --compare BACKEND`: the same image by another backend, and how far the two are apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from upscaled import Result
from upscaled.cli.difference import Difference, write_difference
from upscaled.cli.targets import Target, UsageError

# It becomes a part of file names; whether there is such a backend is the server's to say.
_BACKEND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Files:
    """`photo_x4.png`, and beside it `photo_x4.realesrgan.png` and `photo_x4.difference.png`."""

    own: Path
    other: Path
    difference: Path

    @classmethod
    def of(cls, output: Path, backend: str) -> Files:
        return cls(
            output,
            output.with_name(f"{output.stem}.{backend}{output.suffix}"),
            output.with_name(f"{output.stem}.difference.png"),
        )

    @property
    def all(self) -> list[Path]:
        return [self.own, self.other, self.difference]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `seconds` is what the caller waited, loading the model included; `network_seconds` the
    part of it in which the network ran.
    """

    backend: str
    precision: str
    seconds: float
    network_seconds: float

    @classmethod
    def of(cls, result: Result, seconds: float) -> Side:
        made_by = result.provenance
        return cls(made_by.backend, made_by.precision, seconds, result.timings.stages.get("infer", 0.0))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results of one image, the server's own choice first."""

    files: Files
    own: Side
    other: Side
    difference: Difference

    def table(self) -> list[str]:
        """For people."""
        found = self.difference
        lines = [f"  {'':<22}{'seconds':>9}{'network':>9}"]
        for side in (self.own, self.other):
            name = f"{side.backend} {side.precision}"
            lines.append(f"  {name:<22}{side.seconds:>9.2f}{side.network_seconds:>9.2f}")
        psnr = "no value differs" if found.psnr is None else f"{found.psnr:.1f} dB"
        lines += [
            f"  {'largest difference':<22}{found.largest:>9} of {found.full_scale}",
            f"  {'values that differ':<22}{found.share:>9.1e} of all",
            f"  {'PSNR':<22}{psnr:>9}",
            f"  {'shown amplified':<22}{found.amplified:>9.0f} times",
        ]
        return lines

    def summary(self) -> dict[str, Any]:
        """For programs."""
        found = self.difference
        return {
            "backend": self.other.backend,
            "precision": self.other.precision,
            "output": str(self.files.other),
            "seconds": round(self.other.seconds, 3),
            "network_seconds": round(self.other.network_seconds, 3),
            "difference_image": str(self.files.difference),
            "amplified": found.amplified,
            "largest": found.largest,
            "full_scale": found.full_scale,
            "share": found.share,
            "psnr": found.psnr,
        }


def compare(files: Files, own: tuple[Result, float], other: tuple[Result, float]) -> Comparison:
    """Reads both files again and writes the picture of their difference; each result comes with its seconds.

    Raises UpscaledError, OSError.
    """
    difference = write_difference(files.own, files.other, files.difference)
    return Comparison(files, Side.of(*own), Side.of(*other), difference)


def check(backend: str, format_: str) -> None:
    """UsageError for what cannot be compared, whatever the server has."""
    if not _BACKEND.fullmatch(backend):
        raise UsageError(f"--compare: the name of a backend is expected; got {backend!r}")
    if format_ != "png":
        raise UsageError(f"--compare: only png keeps every value, so that two can be compared; got {format_}")


def refuse_clashes(targets: Sequence[Target], backend: str) -> None:
    """UsageError where two results would get one name, or one would replace an input."""
    taken = {target.source.absolute(): target.source for target in targets}
    for target in targets:
        for path in Files.of(target.output, backend).all:
            other = taken.setdefault(path.absolute(), target.source)
            if other is not target.source or path.absolute() == target.source.absolute():
                raise UsageError(f"{path} would hold what becomes of {other} and of {target.source}; use -o")
