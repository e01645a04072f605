"""Small files that become huge images, many of them at once.

python -m tests.chaos.bombs [--times 20] [--at-once 16] [--short] [--out bench-results/reliability/bombs.json]

Those of the corpus that can be enlarged have few pixels in their first frame, but for one of 16 megapixels:
its callers leave when the first rows have come, all but the first.
"""

from __future__ import annotations

import csv
import io
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import grpc
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST
from tests.reliability.control import Control
from tests.reliability.memory import PeakRss, decoders_pss_bytes, pss_bytes
from tests.reliability.record import Record, arguments, end
from upscaled import Chunk, Client, UpscaledError

_CORPUS = REPO.parent / "shared" / "corpus"
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_MOST_GROWTH_BYTES = 512 << 20
_DEADLINE_SECONDS = 1800.0
_LARGE_PIXELS = 4_000_000


@dataclass(frozen=True)
class Bomb:
    """`stays`: its callers wait for the whole answer."""

    name: str
    data: bytes
    must_be_refused: bool
    stays: bool


@dataclass
class Outcomes:
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_refusal_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


def bombs() -> list[Bomb]:
    """Files that the corpus calls bombs, or that Pillow took for one."""
    found = []
    with (_CORPUS / "manifest.tsv").open() as manifest:
        for row in csv.DictReader(manifest, delimiter="\t"):
            if "bomb" in (row["file"] + row["why"] + row["pillow"]).lower():
                width, _, height = row["size"].partition("x")
                pixels = int(width or 0) * int(height or 0)
                data = (_CORPUS / row["class"] / row["file"]).read_bytes()
                refuse = row["expect"] == "refuse"
                found.append(Bomb(row["file"], data, refuse, refuse or pixels < _LARGE_PIXELS))
    return found


def _send(client: Client, bomb: Bomb) -> str:
    """How it went; empty for what must not happen."""
    if not bomb.stays:
        with client.upscale_stream(bomb.data, model=FAST) as stream:
            first = next(event for event in stream if isinstance(event, Chunk) and len(event.data) > 1000)
        return "first rows" if first else ""
    result = client.upscale(bomb.data, model=FAST)
    with Image.open(io.BytesIO(result.data)) as image:
        return "first frame" if getattr(image, "n_frames", 1) == 1 else ""


def _lane(server: RunningServer, waiting: SimpleQueue[Bomb], outcomes: Outcomes) -> None:
    with Client(server.address, retries=0, timeout=_DEADLINE_SECONDS) as client:
        while True:
            try:
                bomb = waiting.get_nowait()
            except Empty:
                return
            began = time.monotonic()
            try:
                outcome = _send(client, bomb)
                wrong = bomb.must_be_refused or not outcome
            except UpscaledError as error:
                outcome = error.code.name if error.code else repr(error)
                wrong = error.code not in _REFUSED
                seconds = time.monotonic() - began
                with outcomes.lock:
                    outcomes.slowest_refusal_seconds = max(outcomes.slowest_refusal_seconds, seconds)
            with outcomes.lock:
                outcomes.counts[outcome] += 1
                if wrong:
                    outcomes.wrong.append(f"{bomb.name}: {outcome or 'more than one frame'}")


def main() -> int:
    parser = arguments("bombs", __doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=16)
    options = parser.parse_args()
    if not _CORPUS.is_dir():
        print("bombs: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    record = Record(
        "bombs",
        "Bombs",
        "every bomb of the corpus, 16 at once: refused, or its first frame only, and the memory of the "
        "server with its workers and decoders grows by 512 MiB at most (pages that they share count once)",
        options.short,
    )
    files, times = bombs(), (1 if options.short else options.times)
    waiting: SimpleQueue[Bomb] = SimpleQueue()
    for _ in range(times):
        for bomb in files:
            waiting.put(bomb)
    outcomes, began = Outcomes(), time.monotonic()
    with running_server() as server:
        control = Control(server)
        pid = server.process.pid
        with PeakRss(pid, pss_bytes) as peak, PeakRss(pid, decoders_pss_bytes) as decoders:
            threads = [
                threading.Thread(target=_lane, args=(server, waiting, outcomes))
                for _ in range(options.at_once)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        record.not_held += control.problems(server)
    record.tried = times * len(files)
    record.held = record.tried - len(outcomes.wrong)
    record.not_held += sorted(set(outcomes.wrong))
    if peak.growth_bytes > _MOST_GROWTH_BYTES:
        record.not_held.append(
            f"memory grew by {peak.growth_bytes >> 20} MiB: the one bomb with an allowed first frame has 16 "
            f"megapixels; decoders took {decoders.growth_bytes >> 20} MiB of that, and most of the rest is "
            "what the network works with on frames of this size"
        )
    record.seconds = time.monotonic() - began
    record.figures = {
        "files": len(files),
        "at_once": options.at_once,
        **{f"ended_{name.replace(' ', '_')}": count for name, count in sorted(outcomes.counts.items())},
        "slowest_refusal_seconds": outcomes.slowest_refusal_seconds,
        "memory_before_mib": peak.before_bytes >> 20,
        "memory_growth_mib": peak.growth_bytes >> 20,
        "decoders_growth_mib": decoders.growth_bytes >> 20,
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
