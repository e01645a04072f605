"""What HTTP and JSON through Envoy cost, and 200 callers at once.

    python -m tests.benchmarks.edge [--callers N] [--out FILE]

The same small picture by native gRPC straight to the server, by gRPC through Envoy, as JSON, and as a plain
file, in turns within one run; the warm-up is dropped. The ratios are what Envoy and JSON add. Then many
callers over HTTP at once, each once: every answer must be the picture, or a refusal that says when to come
back.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.benchmarks.contest import machine
from tests.conftest import REPO
from tests.e2e.conftest import running_server
from tests.edge.conftest import MODEL, running_edge
from upscaled import Client

ROUNDS = 31
SIDE = 64


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.open(REPO / "docs" / "sample.png").convert("RGB").resize((SIDE, SIDE)).save(buffer, "PNG")
    return buffer.getvalue()


def alone(server: str, edge: str, data: bytes) -> dict[str, list[float]]:
    """Seconds of each way, round by round, in turns."""
    body = {"source": {"image": base64.b64encode(data).decode()}, "options": {"model": MODEL}}
    with (
        Client(server) as straight,
        Client(edge) as through,
        httpx.Client(base_url=f"http://{edge}", timeout=60, trust_env=False) as http,
    ):

        def as_json() -> bytes:
            answer = http.post("/v1/upscale", json=body).raise_for_status().json()
            return base64.b64decode(answer["outputs"][0]["data"])

        def as_file() -> bytes:
            path = f"/v1/upscale:file?options.model={MODEL}"
            return http.post(path, content=data).raise_for_status().content

        ways: dict[str, Callable[[], bytes]] = {
            "grpc": lambda: straight.upscale(data, model=MODEL).data or b"",
            "grpc_through_envoy": lambda: through.upscale(data, model=MODEL).data or b"",
            "json": as_json,
            "file": as_file,
        }
        expected = ways["grpc"]()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                if way() != expected:
                    raise SystemExit(f"{name} gave other bytes")
                if number:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


async def at_once(edge: str, data: bytes, callers: int) -> dict[str, Any]:
    """Every caller once, all together: what each was answered."""
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=f"http://{edge}", timeout=300, limits=limits, trust_env=False
    ) as http:

        async def one() -> tuple[str, float]:
            began = time.perf_counter()
            answer = await http.post(f"/v1/upscale:file?options.model={MODEL}", content=data)
            return _said(answer), time.perf_counter() - began

        answers = await asyncio.gather(*(one() for _ in range(callers)))
    return {
        "callers": callers,
        "answers": dict(Counter(said for said, _ in answers)),
        "slowest_seconds": max(seconds for _, seconds in answers),
    }


def _said(answer: httpx.Response) -> str:
    if answer.status_code == 200:
        whole = int(answer.headers["x-upscaled-size-bytes"]) == len(answer.content)
        return "picture" if whole else "broken picture"
    details = answer.json().get("details", [])
    retry = any("retry_delay" in detail for detail in details)
    return f"refused with {answer.status_code}, {'says when to come back' if retry else 'without a time'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("bench-results/edge.json"))
    options = parser.parse_args()
    data = picture()
    about = machine.describe()
    with running_server() as server, running_edge(server) as edge:
        seconds = alone(server.address, edge.address, data)
        crowd = asyncio.run(at_once(edge.address, data, options.callers))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<20} {median * 1000:7.1f} ms   {median / medians['grpc']:.3f} of native gRPC")
    print(f"{crowd['callers']} callers at once: {crowd['answers']}, slowest {crowd['slowest_seconds']:.1f} s")
    report = {
        "machine": about,
        "picture": f"{SIDE}x{SIDE}, {MODEL}",
        "ratios": {name: round(median / medians["grpc"], 4) for name, median in medians.items()},
        "seconds": seconds,
        "at_once": crowd,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
