"""What a wrong key costs and tells: timing of near and far misses, and a flood of them beside a right key.

python -m tests.benchmarks.keys [--wrong 10000] [--rate 200] [--out bench-results/keys.json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import string
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks.contest import machine
from tests.e2e.counting_proxy import counting_proxy
from tests.e2e.keyed import bearer, keyed_server
from upscaled.v1 import options_pb2, server_pb2, server_pb2_grpc, upscaler_pb2, upscaler_pb2_grpc
from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.directory import Directory
from upscaled_server.access.keys import generate
from upscaled_server.access.settings import AccessSettings
from upscaled_server.errors import Unauthenticated
from upscaled_server.state.sqlite import SqliteStore

_WARM_UP = 200


def near(key: str) -> str:
    """The right key but for its last two characters, of which there are many."""
    while (other := key[:-2] + "".join(random.choices(string.ascii_letters, k=2))) == key:
        pass
    return other


def compare(call: Callable[[str], object], key: str, count: int) -> dict[str, float]:
    """Median seconds of a near miss, a far one and another far one, in random turns: the last two differ only
    by chance, so they say how much of a difference means nothing."""
    kinds = ["near", "far", "far_again"]
    turns = [kind for _ in range(count + _WARM_UP) for kind in random.sample(kinds, len(kinds))]
    # Made before the first is timed: making a random key leaves other things in the processor's caches.
    presented = [near(key) if kind == "near" else generate() for kind in turns]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind, wrong in zip(turns, presented, strict=True):
        began = time.perf_counter()
        call(wrong)
        seconds[kind].append(time.perf_counter() - began)
    medians = {kind: statistics.median(values[_WARM_UP:]) for kind, values in seconds.items()}
    return medians | {
        "near_to_far": medians["near"] / medians["far"],
        "far_to_far": medians["far_again"] / medians["far"],
    }


async def compare_lookup(folder: Path, count: int) -> dict[str, float]:
    """The decision alone, with 10,000 keys to look among."""
    store = await SqliteStore.open(folder / "lookup.db")
    directory = Directory(store)
    for number in range(100):
        await directory.create_caller(Caller(f"caller-{number}"))
        for _ in range(100):
            _, key = await directory.create_key(f"caller-{number}")
    access = Access(directory, AccessSettings())

    def call(presented: str) -> None:
        with contextlib.suppress(Unauthenticated):
            access.identify(f"Bearer {presented}")

    try:
        return compare(call, key, count)
    finally:
        await store.aclose()


def compare_calls(address: str, key: str, count: int) -> dict[str, float]:
    """The same over the network."""
    with grpc.insecure_channel(address) as channel:
        stub = server_pb2_grpc.ServerStub(channel)

        def call(presented: str) -> None:
            with contextlib.suppress(grpc.RpcError):
                stub.GetServerInfo(server_pb2.GetServerInfoRequest(), metadata=bearer(presented), timeout=60)

        return compare(call, key, count)


def flood(address: str, key: str, wrong: int) -> dict[str, Any]:
    """Many wrong keys at once from one address, and what a right one from there notices."""
    with grpc.insecure_channel(address) as channel:
        stub = server_pb2_grpc.ServerStub(channel)

        def call(presented: str) -> str:
            try:
                stub.GetServerInfo(server_pb2.GetServerInfoRequest(), metadata=bearer(presented), timeout=60)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        def right(seconds: list[float]) -> None:
            began = time.perf_counter()
            if call(key) != "OK":
                raise RuntimeError("the right key was refused")
            seconds.append(time.perf_counter() - began)

        alone: list[float] = []
        for _ in range(_WARM_UP):
            right(alone)
        keys = [near(key) if number % 2 else generate() for number in range(wrong)]
        beside: list[float] = []
        over = threading.Event()

        def keep_calling() -> None:
            while not over.wait(0.05):
                right(beside)

        caller = threading.Thread(target=keep_calling)
        began = time.monotonic()
        caller.start()
        with ThreadPoolExecutor(32) as guessers:
            codes = Counter(guessers.map(call, keys))
        seconds = time.monotonic() - began
        over.set()
        caller.join()
    return {
        "wrong_keys": wrong,
        "statuses": dict(codes),
        "seconds": seconds,
        "answers_per_second": wrong / seconds,
        "right_key_alone_p50_seconds": statistics.median(alone[_WARM_UP // 2 :]),
        "right_key_beside_p50_seconds": statistics.median(beside),
        "right_key_calls_beside": len(beside),
        "presented": keys,
    }


def body_bytes(address: str, key: str, megabytes: int) -> dict[str, int]:
    """Bytes of a request that the server took, with a wrong and with the right key."""
    message = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=bytes(megabytes << 20)))
    taken = {"body": message.ByteSize()}
    with counting_proxy(address) as proxy:
        for name, presented in (("wrong_key", generate()), ("right_key", key)):
            options = [("grpc.max_send_message_length", (megabytes + 8) << 20)]
            before = proxy.sent
            with (
                grpc.insecure_channel(proxy.address, options=options) as channel,
                contextlib.suppress(grpc.RpcError),
            ):
                stub = upscaler_pb2_grpc.UpscalerStub(channel)
                stub.Upscale(message, metadata=bearer(presented), timeout=60)
            taken[name] = proxy.sent - before
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wrong", type=int, default=10_000, help="wrong keys of the flood")
    parser.add_argument("--rate", type=float, default=200, help="UPSCALED_WRONG_KEYS_PER_SECOND of the flood")
    parser.add_argument("--samples", type=int, default=2000, help="calls of each kind over the network")
    parser.add_argument("--out", type=Path, default=Path("bench-results/keys.json"))
    options = parser.parse_args()
    about = machine.describe()
    with tempfile.TemporaryDirectory(prefix="upscaled-keys-") as name:
        folder = Path(name)
        results: dict[str, Any] = {"decision": asyncio.run(compare_lookup(folder, 20_000)), "machine": about}
        with keyed_server(folder, UPSCALED_WRONG_KEYS_PER_SECOND="1e6") as keyed:
            key = keyed.make_key("anna")
            results["call"] = compare_calls(keyed.address, key, options.samples)
            results["body"] = body_bytes(keyed.address, key, 60)
        with keyed_server(folder, UPSCALED_WRONG_KEYS_PER_SECOND=f"{options.rate:g}") as keyed:
            log_bytes = keyed.log.stat().st_size
            results["flood"] = flood(keyed.address, key, options.wrong)
            presented = {each[17:] for each in results["flood"].pop("presented")} | {key[17:]}
            said = keyed.log.read_text()
        results["flood"] |= {
            "limit_per_second": options.rate,
            "keys_in_the_log": sum(each in said for each in presented),
            "log_bytes_per_wrong_key": (len(said) - log_bytes) / options.wrong,
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    for name in ("decision", "call"):
        found = results[name]
        print(
            f"{name}: near miss {found['near'] * 1e6:.2f} us, far {found['far'] * 1e6:.2f} us (medians), "
            f"near to far {found['near_to_far']:.4f}; far to far {found['far_to_far']:.4f}"
        )
    body, found = results["body"], results["flood"]
    print(f"of a body of {body['body'] / 1e6:.1f} MB the server took {body['wrong_key'] / 1e6:.2f} MB")
    print(
        f"{found['wrong_keys']} wrong keys: {found['statuses']} in {found['seconds']:.1f} s, "
        f"{found['answers_per_second']:.0f} per second; a right key beside them "
        f"{found['right_key_beside_p50_seconds'] * 1e3:.2f} ms, alone "
        f"{found['right_key_alone_p50_seconds'] * 1e3:.2f} ms; {found['keys_in_the_log']} keys in the log"
    )


if __name__ == "__main__":
    main()
