"""Names and ids that are paths, control characters or endless, in every field of every rpc that takes one.

python -m tests.chaos.names [--short] [--out FILE]

Around the data folder lie files under names that the paths lead to. None of them may be opened.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor

from tests.chaos.opened_files import OpenedFiles
from tests.chaos.requests import Place, Things, places, right, things
from tests.e2e.keyed import bearer, keyed_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.rpcs import methods, status_of

_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
_FIELDS = (
    "job_id",
    "input_id",
    "output_id",
    "key_id",
    "caller",
    "name",
    "model",
    "allowed_models",
    "logger",
    "backend",
    "file_name",
    "page_token",
    "paths",
)
_CANARY = "canary-41.png"
_DEPTH = 5


def names(there: Things, folder: Path) -> Iterator[str]:
    """`folder`: the server's data folder, with canaries in the folders above it."""
    for up in range(1, _DEPTH + 3):
        yield "../" * up + _CANARY
    yield from (
        "..",
        "../../etc/passwd",
        str(folder.parent / _CANARY),
        f"file://{folder.parent / _CANARY}",
        f"{there.output_id}/../../../{_CANARY}",
        f"../{there.output_id}",
        f"..\\..\\{_CANARY}",
        "\0",
        f"{there.output_id}\0",
        f"..\0/{_CANARY}",
        "a\r\nb",
        f"{there.output_id}\n",
        "A" * 1_000_000,
        "\x7f\x1b[2J",
        "\u202egnp.exe",
        "\u2028",
    )


def odd_names(there: Things) -> Iterator[str]:
    """Right for a file that a caller names, and for nothing that the server names."""
    yield "%2e%2e%2f" * 3 + _CANARY
    yield there.output_id[:-1] + "\u0660"  # a digit, but not one of ours
    yield from ("\uff0e\uff0e\uff0f", "é" * 13, "\U0001f600" * 6, "\u0662" * 26)


def fields() -> Iterator[tuple[MethodDescriptor, Place]]:
    for method in methods():
        for place in places(method.input_type):
            if place.field.name in _FIELDS:
                yield method, place


def main() -> int:
    parser = arguments("names", __doc__.split("\n")[0])
    options = parser.parse_args()
    record = Record(
        "names",
        "Job names",
        "paths, NUL, CR and LF, 1 MB and Unicode in every field of every rpc that takes a name or an id: "
        "INVALID_ARGUMENT or NOT_FOUND; no file opened or made in the folders above the data folder, which "
        "hold one under each name",
        options.short,
    )
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as root:
        above = [Path(root).joinpath(*"abcde"[:depth]) for depth in range(_DEPTH + 1)]
        folder = above[-1] / "data"
        folder.mkdir(parents=True)
        for each in above:
            (each / _CANARY).write_bytes(b"canary")
        with keyed_server(folder) as server, OpenedFiles(above) as opened:
            there = things(server, "names")
            control = Control(server.server, there.key)
            before = opened.seen()
            began = time.monotonic()
            _call_all(record, server.address, there, folder)
            record.seconds = time.monotonic() - began
            record.not_held += [f"{path} was opened or made" for path in opened.seen() | before]
            record.not_held += control.problems(server.server)
            (above[0] / _CANARY).read_bytes()
            if opened.seen() != {above[0] / _CANARY}:
                record.not_held.append("a canary that was opened was not noticed: the test tells nothing")
    return end(record, options.out)


def _call_all(record: Record, address: str, there: Things, folder: Path) -> None:
    every = 3 if record.short else 1
    with grpc.insecure_channel(address) as channel:
        for method, place in fields():
            tried = list(names(there, folder))
            if place.field.name != "file_name":
                tried += odd_names(there)
            for name in tried[::every]:
                message = right(method, there)
                place.put(message, name)
                status, said = status_of(channel, method, message.SerializeToString(), bearer(there.key))
                record.tried += 1
                if status in _REFUSALS and len(said) < 1000:
                    record.held += 1
                else:
                    record.not_held.append(
                        f"{method.name}: {place.name} = {name[:40]!r} ended {status.name}: {said[:200]}"
                    )
    record.figures = {"fields": len(list(fields())), "names": len(tried)}


if __name__ == "__main__":
    sys.exit(main())
