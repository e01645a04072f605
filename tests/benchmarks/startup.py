"""From process start to SERVING on the CPU, beside the start of a bare Python that imports grpc.

python -m tests.benchmarks.startup [--runs 5] [--out bench-results/startup.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.benchmarks.processes import measured_server


def start_server() -> float:
    with measured_server(UPSCALED_DEVICES="cpu") as server, grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise RuntimeError("the server announced itself before it was SERVING")
        return server.start_seconds


def start_python() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import grpc, numpy"], check=True)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench-results/startup.json"))
    options = parser.parse_args()
    start_server(), start_python()  # warm-up: the file cache
    pairs = [(start_server(), start_python()) for _ in range(options.runs)]
    server, python = (statistics.median(column) for column in zip(*pairs, strict=True))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    samples = {"server": [pair[0] for pair in pairs], "python": [pair[1] for pair in pairs]}
    options.out.write_text(json.dumps(samples, indent=1) + "\n")
    ratio = server / python
    print(f"serving after {server:.2f} s (median), {ratio:.1f} times a bare Python with grpc and numpy")


if __name__ == "__main__":
    main()
