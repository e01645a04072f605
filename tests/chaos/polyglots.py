"""Files that are an image and something else: nothing of the other thing comes out, and no position where
none is wanted.

python -m tests.chaos.polyglots [--short] [--out bench-results/reliability/polyglots.json]

Every such file of the corpus, into every format and with every policy for metadata.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
import time
from pathlib import Path

import grpc
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled import Client, UpscaledError

_CORPUS = REPO.parent / "shared" / "corpus"
_MARKER = b"CORPUS-MARKER-41"
_GPS = 0x8825
_FORMATS = ("png", "jpeg", "webp", "tiff", "avif")
_POLICIES = ("keep", "strip_gps", "strip")
_WITHOUT_POSITION = ("strip_gps", "strip")
_SMALL_BYTES = 20_000
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


def has_position(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        return bool(image.getexif().get_ifd(_GPS))


def _files() -> list[Path]:
    """Those that carry the marker, and those with a position."""
    found = []
    for path in sorted(_CORPUS.glob("*/*")):
        data = path.read_bytes()
        if _MARKER in data or "gps" in path.name.lower():
            found.append(path)
    return found


def _wrong(data: bytes, policy: str) -> str:
    if _MARKER in data:
        return "the marker came through"
    if policy in _WITHOUT_POSITION and has_position(data):
        return "the position came through"
    return ""


def main() -> int:
    options = arguments("polyglots", __doc__.split("\n")[0]).parse_args()
    if not _CORPUS.is_dir():
        print("polyglots: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    record = Record(
        "polyglots",
        "Polyglots",
        "every file of the corpus that carries the marker or a position, into every format with every policy "
        "for metadata: the marker is in no output, and no position where it was to be taken away",
        options.short,
    )
    files, formats = _files(), _FORMATS
    if options.short:
        files, formats = [path for path in files if path.stat().st_size < _SMALL_BYTES], _FORMATS[:2]
    began, enlarged, refused, kept = time.monotonic(), 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="upscaled-polyglots-") as folder:
        log = Path(folder) / "server.log"
        with (
            running_server(log, UPSCALED_LOG_LEVEL="debug") as server,
            Client(server.address, timeout=120) as client,
        ):
            control = Control(server)
            for path, form, policy in itertools.product(files, formats, _POLICIES):
                record.tried += 1
                try:
                    result = client.upscale(
                        path.read_bytes(), model=FAST, format=form, metadata=policy, scale=1
                    )
                except UpscaledError as error:
                    problem = "" if error.code in _REFUSED else f"ended with {error.code}"
                    refused += 1
                else:
                    problem = _wrong(result.data, policy)
                    enlarged += 1
                    kept += has_position(result.data)
                record.held += not problem
                if problem:
                    record.not_held.append(f"{path.name} as {form}, {policy}: {problem}")
            record.not_held += control.problems(server)
        if _MARKER in log.read_bytes():
            record.not_held.append("the marker is in the log")
    if not kept:
        record.not_held.append("no file had a position to lose")
    record.seconds = time.monotonic() - began
    record.figures = {
        "files": len(files),
        "enlarged": enlarged,
        "refused": refused,
        "positions_kept_where_asked_for": kept,
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
