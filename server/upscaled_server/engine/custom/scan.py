"""The models of the folder as catalogue entries, kept up to date."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from upscaled_server.engine.architectures import Custom
from upscaled_server.engine.catalogue import MODELS, Catalogue
from upscaled_server.engine.custom.files import Listing, ModelFile, list_files
from upscaled_server.engine.custom.measure import Measured
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.machine import usable_memory
from upscaled_server.engine.weights.files import read_bounded
from upscaled_server.errors import DomainError, WeightsRejected

log = logging.getLogger("upscaled_server.engine")

SCAN_SECONDS = 5.0
_MEASURE_SECONDS = 600.0
# Of the memory, half of which the server may hold for its own work (`UPSCALED_MEMORY_BUDGET_BYTES`). Torch
# alone needs a third of the least.
_MEASURE_SHARE = 1 / 4
_LEAST_MEASURE_BYTES = 1 << 30


class FolderModels:
    """Watches the model folder. A file that is new or changed is measured in a process of its own, one at a
    time, and then listed; what was measured once is kept in the cache, by the file's hash."""

    def __init__(self, catalogue: Catalogue, folder: Path | None, cache: Path) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._cache = cache / "measured"
        self._known: dict[ModelFile, CustomModel | None] = {}
        self._told = False
        self._passed_over: Mapping[str, str] = {}

    async def watch(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
            except OSError as error:
                log.warning("the model folder could not be read: %s", error)
            await asyncio.sleep(SCAN_SECONDS)

    async def refresh(self) -> None:
        """Bring the catalogue up to date with the folder. A file that is not used is logged once."""
        taken = [stem for spec in MODELS for stem in spec.file_stems]
        files = await asyncio.to_thread(list_files, self._folder, taken)
        self._tell_passed_over(files)
        listed = list(files.models.values())
        if listed and not self._may_load():
            return
        self._known = {file: spec for file, spec in self._known.items() if file in listed}
        self._publish()
        for file in listed:
            if file not in self._known:
                self._known[file] = await self._describe(file)
                self._publish()

    def _tell_passed_over(self, files: Listing) -> None:
        for name, why in files.passed_over.items():
            if self._passed_over.get(name) != why:
                log.warning("%r is not used: %s", name, why)
        self._passed_over = files.passed_over

    def _may_load(self) -> bool:
        if importlib.util.find_spec("spandrel") is not None and importlib.util.find_spec("torch") is not None:
            return True
        if not self._told:
            self._told = True
            log.warning(
                "the model folder holds models of its own, which need pip install 'upscaled[custom-models]'"
            )
        return False

    def _publish(self) -> None:
        specs = [spec for spec in self._known.values() if spec is not None]
        self._catalogue.set_custom(sorted(specs, key=lambda spec: spec.name))

    async def _describe(self, file: ModelFile) -> CustomModel | None:
        try:
            digest = await asyncio.to_thread(_digest, file.path)
            measured = self._recall(digest)
            if measured is None:
                log.info("measuring %s", file.path.name)
                measured = await _measure(file.path)
                self._remember(measured)
        except DomainError as error:
            log.warning("%s is not used: %s", file.path.name, error.message)
            return None
        log.info("%s is a model: %s, x%d", file.path.name, measured.architecture, measured.scale)
        return to_spec(file.name, measured)

    def _recall(self, digest: str) -> Measured | None:
        try:
            return Measured(**json.loads((self._cache / f"{digest}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _remember(self, measured: Measured) -> None:
        path = self._cache / f"{measured.sha256}.json"
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(asdict(measured)))
            partial.replace(path)
        except OSError as error:
            log.warning("what was measured could not be kept: %s", error)


def to_spec(name: str, measured: Measured) -> CustomModel:
    """The catalogue entry of a file that was measured."""
    return CustomModel(
        name=name,
        architecture=Custom(measured.architecture, measured.scale, measured.multiple, measured.min_size),
        halo=measured.halo,
        seconds_per_pixel=measured.seconds_per_pixel,
        bytes_per_pixel=measured.bytes_per_pixel,
        sha256=measured.sha256,
        size_bytes=measured.size_bytes,
    )


def _measure_bytes() -> int:
    """What the process that measures may take, torch included."""
    return max(_LEAST_MEASURE_BYTES, int(usable_memory() * _MEASURE_SHARE))


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bounded(path)).hexdigest()


async def _measure(path: Path) -> Measured:
    """Raises `WeightsRejected`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "upscaled_server.engine.custom.measure", str(path)),
        str(_measure_bytes()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_MEASURE_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise WeightsRejected(f"{path.name} could not be measured in {_MEASURE_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise WeightsRejected(
            f"{path.name} ended the process that measured it (status {process.returncode})"
        ) from None
    if "refused" in answer:
        raise WeightsRejected(str(answer["refused"]))
    return Measured(**answer)
