"""What watching costs: processor time of a scrape, and of every request with and without metrics.

python -m tests.benchmarks.telemetry [--short] [--out docs/benchmarks/telemetry.json]

Servers at once, asked in turn, so that what else the machine does meets all alike: one whose instruments do
nothing, one as it is, and, where this version has traces, one that also sends them to a receiver here. Times
are user and system time of processes, since wall time says more about the machine's other guests.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from PIL import Image

from tests.benchmarks.processes import measured_server
from tests.conftest import REPO
from tests.e2e.keyed import FAST, bearer, keyed_server
from tests.ports import free_address
from upscaled.v1 import options_pb2, server_pb2, server_pb2_grpc, upscaler_pb2, upscaler_pb2_grpc
from upscaled_server.app import SETTINGS

CALLERS = 1000
SCRAPE_GOAL_SECONDS = 0.020
_TICK = os.sysconf("SC_CLK_TCK")
# Holds what makes instruments do nothing, which the interpreter looks for in its path as it starts.
_WITHOUT = Path(__file__).with_name("without_metrics")
TRACES = "traces_endpoint"


@dataclass(frozen=True, slots=True)
class Kind:
    """A request that is timed, so many of them in one turn."""

    name: str
    ask: Callable[[grpc.Channel], object]
    count: int


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system time of a server's own process, and of it with all its children."""
    own = _cpu_of(pid, with_ended=False)
    return {"server": own, "all": _with_children(pid)}


def _cpu_of(pid: int, *, with_ended: bool) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / _TICK


def _with_children(pid: int) -> float:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _cpu_of(pid, with_ended=True) + sum(_with_children(int(each)) for each in children)


def small_picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((32, 32), 40).convert("RGB").save(out, "PNG")
    return out.getvalue()


def kinds(short: bool) -> list[Kind]:
    image = small_picture()

    def upscale(channel: grpc.Channel) -> object:
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=image), options=options_pb2.UpscaleOptions(model=FAST)
        )
        return upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=60)

    def info(channel: grpc.Channel) -> object:
        return server_pb2_grpc.ServerStub(channel).GetServerInfo(
            server_pb2.GetServerInfoRequest(), timeout=60
        )

    return [
        Kind("GetServerInfo", info, 50 if short else 500),
        Kind("Upscale of 32x32", upscale, 5 if short else 60),
    ]


def of_requests(rounds: int, short: bool) -> dict[str, Any]:
    """CPU milliseconds of a request by kind and server: the median over turns."""
    with ExitStack() as stack:
        settings = {name: {"UPSCALED_METRICS_LISTEN": free_address()} for name in ("without", "metrics")}
        settings["without"]["PYTHONPATH"] = f"{_WITHOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        if any(TRACES in kind.model_fields for kind in SETTINGS):
            endpoint = stack.enter_context(trace_receiver())
            settings["metrics and traces"] = {
                "UPSCALED_METRICS_LISTEN": free_address(),
                f"UPSCALED_{TRACES}".upper(): endpoint,
                "UPSCALED_TRACES_PROTOCOL": "grpc",
            }
        servers = {name: stack.enter_context(measured_server(**each)) for name, each in settings.items()}
        channels = {
            name: stack.enter_context(grpc.insecure_channel(each.address)) for name, each in servers.items()
        }
        found: dict[str, dict[str, list[dict[str, float]]]] = {}
        for kind in kinds(short):
            for channel in channels.values():
                kind.ask(channel)
            for turn in range(rounds):
                order = [*servers][turn % len(servers) :] + [*servers][: turn % len(servers)]
                for name in order:
                    before = cpu_seconds(servers[name].pid)
                    for _ in range(kind.count):
                        kind.ask(channels[name])
                    after = cpu_seconds(servers[name].pid)
                    spent = {each: (after[each] - before[each]) / kind.count * 1e3 for each in after}
                    found.setdefault(kind.name, {}).setdefault(name, []).append(spent)
        for name, each in settings.items():
            counts = "upscaled_rpc_duration_seconds_count{" in scrape(each["UPSCALED_METRICS_LISTEN"])
            if counts == (name == "without"):
                raise RuntimeError(f"{name}: the server {'counts' if counts else 'does not count'}")
    return {kind: _compared(by_server) for kind, by_server in found.items()}


def _compared(by_server: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, turns in by_server.items():
        told[name] = {
            f"{part}_cpu_ms": {
                "median": round(statistics.median(turn[part] for turn in turns), 4),
                "turns": [round(turn[part], 4) for turn in turns],
            }
            for part in ("server", "all")
        }
    base = told["without"]
    for each in told.values():
        for part in ("server_cpu_ms", "all_cpu_ms"):
            each[part]["of_without"] = round(each[part]["median"] / base[part]["median"], 4)
    return told


def of_scrapes(callers: int, count: int) -> dict[str, Any]:
    """A server that many callers have used: what one scrape takes while it is idle, and how long while it
    works."""
    address = free_address()
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-bench-") as folder,
        keyed_server(Path(folder), UPSCALED_METRICS_LISTEN=address, UPSCALED_PRICES="default=1+1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = upscaler_pb2_grpc.UpscalerStub(channel)
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=small_picture()),
            options=options_pb2.UpscaleOptions(model=FAST),
        )

        def call(key: str) -> None:
            stub.Upscale(request, metadata=bearer(key), timeout=120)

        keys = [server.make_key(f"caller-{number}") for number in range(callers)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(call, keys))
        pid = server.server.process.pid
        text = scrape(address)
        time.sleep(1.0)
        before = cpu_seconds(pid)["server"]
        idle = [_timed(address) for _ in range(count)]
        spent = cpu_seconds(pid)["server"] - before
        stop = threading.Event()

        def work(key: str) -> None:
            while not stop.is_set():
                call(key)

        with ThreadPoolExecutor(4) as threads:
            working = [threads.submit(work, key) for key in keys[:4]]
            loaded = []
            for _ in range(min(count, 60)):
                time.sleep(0.1)
                loaded.append(_timed(address))
            stop.set()
            wait(working)
            for each in working:
                each.result()
    cpu = spent / count
    return {
        "callers": callers,
        "series": sum(not line.startswith("#") for line in text.splitlines()),
        "bytes": len(text),
        "scrapes": count,
        "cpu_ms": round(cpu * 1e3, 3),
        "idle_wall_ms": _quantiles(idle),
        "loaded_wall_ms": _quantiles(loaded),
        "goal_ms": SCRAPE_GOAL_SECONDS * 1e3,
        "met": cpu < SCRAPE_GOAL_SECONDS,
    }


def _timed(address: str) -> float:
    began = time.perf_counter()
    scrape(address)
    return time.perf_counter() - began


def scrape(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def _quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20)
    return {"median": round(statistics.median(seconds) * 1e3, 2), "p95": round(cuts[18] * 1e3, 2)}


@contextmanager
def trace_receiver() -> Iterator[str]:
    """A receiver of OTLP over gRPC that takes everything and keeps nothing."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: b""
            )
            return handler

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((Everything(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(1).wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few requests, to see that it runs")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "benchmarks" / "telemetry.json")
    arguments = parser.parse_args()
    short = arguments.short
    began_load = os.getloadavg()[0]
    report = {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_before": round(began_load, 2),
        "scrape": of_scrapes(40 if short else CALLERS, 20 if short else 200),
        "requests": of_requests(3 if short else 9, short),
    }
    # Until this version has traces there is nothing to compare.
    report["traces"] = any("metrics and traces" in each for each in report["requests"].values()) or None
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
