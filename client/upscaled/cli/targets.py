"""Which files are read, and what the results are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".heic",
        ".heif",
    ]
)
SUFFIX_OF_FORMAT: Final = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tiff", "avif": ".avif"}
FORMAT_OF_SUFFIX: Final = {
    **{suffix: name for name, suffix in SUFFIX_OF_FORMAT.items()},
    ".jpeg": "jpeg",
    ".tif": "tiff",
}


class UsageError(Exception):
    """The command line does not say what is to be done."""


@dataclass(frozen=True, slots=True)
class Target:
    """One image, and where its result goes. `listed` tells an image that was found in a folder from a named
    one.
    """

    source: Path
    output: Path
    listed: bool


def format_of(output: str | None, named: str | None) -> str | None:
    """The format: the named one, else what the suffix of a named output file says."""
    if named is not None or output is None:
        return named
    suffix = Path(output).suffix.lower()
    if suffix and not Path(output).is_dir() and suffix not in FORMAT_OF_SUFFIX:
        raise UsageError(f"-o {output}: no format has the suffix {suffix}; --format names one")
    return FORMAT_OF_SUFFIX.get(suffix)


def size_tag(scale: float | None, width: int | None, height: int | None, own_scale: int) -> str:
    """What is added to a name: `_x4`, `_2048w`, `_1080h` or `_2048x1080`."""
    if width and height:
        return f"_{width}x{height}"
    if width or height:
        return f"_{width}w" if width else f"_{height}h"
    return f"_x{scale if scale is not None else own_scale:g}"


def find_targets(inputs: list[Path], output: str | None, tag: str, suffix: str) -> list[Target]:
    """Every image to do, in order.

    A file's result goes beside it as `photo_x4.png`; a folder's images (of this folder, not of those in it)
    go into `photos_x4/` beside the folder, under their own names, so that a second run does not enlarge
    results. `output` is the file for a single image, else a folder. UsageError for inputs that are not there
    and for two results of one name.
    """
    many = len(inputs) > 1 or any(path.is_dir() for path in inputs)
    folder = Path(output) if output and (many or output.endswith("/") or Path(output).is_dir()) else None
    if folder is not None and folder.is_file():
        raise UsageError(f"-o {output}: several images need a folder, and this is a file")
    targets: list[Target] = []
    for path in inputs:
        if path.is_dir():
            goal = folder or path.resolve().with_name(path.resolve().name + tag)
            images = images_in(path)
            targets += [Target(image, goal / (image.stem + suffix), listed=True) for image in images]
        elif not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        elif output and folder is None:
            targets.append(Target(path, Path(output), listed=False))
        else:
            name = path.stem + tag + suffix
            targets.append(Target(path, folder / name if folder else path.with_name(name), listed=False))
    _refuse_clashes(targets)
    return targets


def images_in(folder: Path) -> list[Path]:
    """Its images, not those further down, in order. UsageError where there are none."""
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not images:
        raise UsageError(f"{folder}: no images in this folder")
    return images


def _refuse_clashes(targets: list[Target]) -> None:
    seen: dict[Path, Path] = {}
    for target in targets:
        other = seen.setdefault(target.output.absolute(), target.source)
        if other is not target.source:
            raise UsageError(
                f"{other} and {target.source} would both become {target.output}; do them apart with -o"
            )
        if target.output.absolute() == target.source.absolute():
            raise UsageError(f"{target.source}: would replace itself; name another output with -o")
