"""Wrong keys, as fast as they are answered; and a right one that asks for what is another caller's.

python -m tests.chaos.wrong_keys [--keys 10000] [--short] [--out FILE]

The guesses are calls of which only the headers are sent: an answer comes before the body is read, or never.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import grpc

from tests.benchmarks.keys import near
from tests.chaos.http2 import Peer
from tests.chaos.requests import Things, places, right, things
from tests.e2e.keyed import KeyedServer, bearer, keyed_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.rpcs import methods, path_of, status_of
from upscaled.v1 import server_pb2, server_pb2_grpc
from upscaled_server.access.keys import generate

_PEERS = 8
_AT_ONCE = 16
_PER_SECOND = 200
_BURST_SECONDS = 5
_UNAUTHENTICATED = "16"
_ANSWER_SECONDS = 30.0


class RightCaller:
    """Calls now and then; how long that takes."""

    def __init__(self, server: KeyedServer, key: str) -> None:
        self._server, self._key = server, key
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> RightCaller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        with grpc.insecure_channel(self._server.address) as channel:
            stub = server_pb2_grpc.ServerStub(channel)
            while not self._over.wait(0.05):
                began = time.monotonic()
                try:
                    stub.GetServerInfo(
                        server_pb2.GetServerInfoRequest(), metadata=bearer(self._key), timeout=_ANSWER_SECONDS
                    )
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code().name}: {error.details()}")
                self.seconds.append(time.monotonic() - began)


def guess(address: str, keys: list[str]) -> Counter[str]:
    """How calls with these keys end, over one connection, some at once; every rpc in turn."""
    ends: Counter[str] = Counter()
    paths = [path_of(method) for method in methods()]
    with Peer(address) as peer:
        for at in range(0, len(keys), _AT_ONCE):
            streams = [
                peer.begin(paths[(at + number) % len(paths)], ("authorization", f"Bearer {key}"))
                for number, key in enumerate(keys[at : at + _AT_ONCE])
            ]
            peer.flush()
            for stream in streams:
                ends[peer.wait(stream, _ANSWER_SECONDS).status or "none"] += 1
                del peer.answers[stream]
    return ends


def guess_all(address: str, keys: list[str]) -> Counter[str]:
    ends: list[Counter[str]] = []
    threads = [
        threading.Thread(target=lambda mine=keys[number::_PEERS]: ends.append(guess(address, mine)))
        for number in range(_PEERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(ends, Counter())


def ask_for_anothers(record: Record, address: str, there: Things, key: str) -> None:
    """Everything of `there` by its id, with the key of somebody else."""
    ids = {"job_id": there.job_id, "input_id": there.input_id, "output_id": there.output_id}
    with grpc.insecure_channel(address) as channel:
        for method in methods():
            for place in places(method.input_type):
                if place.field.name not in ids:
                    continue
                message = right(method, there)
                place.put(message, ids[place.field.name])
                status, said = status_of(channel, method, message.SerializeToString(), bearer(key))
                record.tried += 1
                if status is grpc.StatusCode.NOT_FOUND:
                    record.held += 1
                else:
                    record.not_held.append(f"{method.name} of another's {place.name}: {status.name} {said}")


def in_files(folder: Path, keys: list[str]) -> list[str]:
    """Files that hold the secret part of a key."""
    secrets = {key[17:].encode() for key in keys}
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if any(secret in data for secret in secrets):
                found.append(str(path.relative_to(folder)))
    return found


def main() -> int:
    parser = arguments("wrong_keys", __doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000)
    options = parser.parse_args()
    count = 1500 if options.short else options.keys
    record = Record(
        "wrong_keys",
        "Keys",
        f"{count} wrong keys, half of them nearly right, on every rpc, in calls that send headers and no "
        f"body, from {_PEERS} connections of {_AT_ONCE} calls each with {_PER_SECOND} answers allowed a "
        "second; then everything of another caller by its id",
        options.short,
        tried=count,
    )
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name,
        keyed_server(Path(name), UPSCALED_WRONG_KEYS_PER_SECOND=str(_PER_SECOND)) as server,
    ):
        there = things(server, "anna")
        key = server.make_key("bert")
        control = Control(server.server, key)
        keys = [near(key) if number % 2 else generate() for number in range(count)]
        with RightCaller(server, key) as alone:
            time.sleep(3.0)
        began = time.monotonic()
        with RightCaller(server, key) as beside:
            ends = guess_all(server.address, keys)
        seconds = time.monotonic() - began
        record.held = ends[_UNAUTHENTICATED]
        record.not_held += [
            f"{number} calls ended with status {status}"
            for status, number in ends.items()
            if status != _UNAUTHENTICATED
        ]
        record.not_held += [
            f"a right key was refused: {each}" for each in (*alone.failures, *beside.failures)
        ]
        if seconds < 0.9 * (count / _PER_SECOND - _BURST_SECONDS):
            record.not_held.append(f"{count} answers in {seconds:.1f} s: they were not held back")
        ask_for_anothers(record, server.address, there, key)
        record.not_held += control.problems(server.server)
        with contextlib.suppress(OSError):
            server.server.stop()
        record.not_held += [f"a key is in {path}" for path in in_files(Path(name), [*keys, key, there.key])]
    record.seconds = time.monotonic() - began
    record.figures = {
        "answers_per_s": count / seconds,
        "right_key_alone_p50_ms": statistics.median(alone.seconds) * 1e3,
        "right_key_beside_p50_ms": statistics.median(beside.seconds) * 1e3,
        "right_key_calls": len(beside.seconds),
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
