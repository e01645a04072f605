"""The whole corpus of image files through a running server, several at once, several times.

python -m tests.soak --corpus [--times 3] [--at-once 8] [--max-megapixels 50] [--short]
    [--out bench-results/soak_corpus.json]

Each file must be refused or enlarged as its manifest says. A control image must give the same bytes before
and afterwards; and what the server holds must be what it held after the first round.
"""

from __future__ import annotations

import argparse
import csv
import gc
import hashlib
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import grpc

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.integration.media.test_decode_corpus import ACCEPTED_HERE
from tests.soak.levels import Levels
from upscaled import Client, UpscaledError

_CORPUS = REPO.parent / "shared" / "corpus"
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_SECONDS_TO_REFUSE = 10.0
_DEADLINE_SECONDS = 600.0
_SHORT_EVERY = 12
_SETTLE_SECONDS = 15.0
_SIDE = 64  # of the answer; the network enlarges the whole picture all the same
_MARKER = b"CORPUS-MARKER-41"
# Of pixels, for the next rows: `pool/pixels.py`.
_KEPT_BUFFERS = 8
_RSS_SLACK_BYTES = 128 << 20


@dataclass
class Run:
    """`slow`: refusals that took longer than ten seconds, which eight at once on two cores may take too."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    slowest_refusal_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, row: dict[str, str], status: str, seconds: float, *, marked: bool) -> None:
        refused = status in {code.name for code in _REFUSALS}
        outcome = "enlarged" if status == "OK" else "refused" if refused else status
        with self.lock:
            self.outcomes.setdefault(row["class"], Counter())[outcome] += 1
            self.statuses[status] += 1
            if outcome not in _allowed(row) or marked:
                self.wrong.append(f"{row['file']}: {'the marker came through' if marked else status}")
            if refused:
                self.slowest_refusal_seconds = max(self.slowest_refusal_seconds, seconds)
                if row["expect"] == "refuse" and seconds > _SECONDS_TO_REFUSE:
                    self.slow.append(f"{row['file']}: {seconds:.1f} s")


def _allowed(row: dict[str, str]) -> set[str]:
    if row["file"] in ACCEPTED_HERE:
        return {"enlarged", "refused"}
    return {"refuse": {"refused"}, "work": {"enlarged"}}.get(row["expect"], {"enlarged", "refused"})


def files(*, every: int) -> list[dict[str, str]]:
    """Each `every`th row of the manifest."""
    with (_CORPUS / "manifest.tsv").open() as manifest:
        return list(csv.DictReader(manifest, delimiter="\t"))[::every]


def control(server: RunningServer) -> str:
    with Client(server.address, timeout=120) as client:
        return hashlib.sha256(client.upscale(picture(40, 30), model=FAST).data).hexdigest()


def one_round(server: RunningServer, rows: list[dict[str, str]], at_once: int, run: Run) -> None:
    waiting: SimpleQueue[dict[str, str]] = SimpleQueue()
    for row in rows:
        waiting.put(row)
    threads = [threading.Thread(target=_lane, args=(server, waiting, run)) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _lane(server: RunningServer, waiting: SimpleQueue[dict[str, str]], run: Run) -> None:
    with Client(server.address, retries=0, timeout=_DEADLINE_SECONDS) as client:
        while True:
            try:
                row = waiting.get_nowait()
            except Empty:
                return
            data = (_CORPUS / row["class"] / row["file"]).read_bytes()
            began = time.monotonic()
            try:
                result = client.upscale(data, model=FAST, width=_SIDE)
                status, marked = "OK", _MARKER in result.data
            except UpscaledError as error:
                status, marked = error.code.name if error.code else repr(error), False
            run.note(row, status, time.monotonic() - began, marked=marked)


def settled(server: RunningServer) -> Levels:
    """What is held once decoders that were just killed are gone, and connections of clients here, which gRPC
    keeps until the garbage collector has found the errors of their calls."""
    gc.collect()
    time.sleep(_SETTLE_SECONDS)
    return Levels.of(server.process.pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument(
        "--max-megapixels", type=float, default=50.0, help="the server's limit; a slow machine takes less"
    )
    parser.add_argument("--short", action="store_true", help=f"each {_SHORT_EVERY}th file, twice, to 1.5 MP")
    parser.add_argument("--out", type=Path, default=Path("bench-results/soak_corpus.json"))
    options = parser.parse_args()
    if not _CORPUS.is_dir():
        print("soak of the corpus: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    rows = files(every=_SHORT_EVERY if options.short else 1)
    times, most = (2, 1.5) if options.short else (options.times, options.max_megapixels)
    found, before, after, same, alive, forged = _whole(rows, times, options.at_once, round(most * 1e6))
    levels = {"after_the_first_round": asdict(before), "at_the_end": asdict(after)}
    broken = found.statuses["INTERNAL"] + found.statuses["UNKNOWN"]
    flat = _flat(before, after)
    right = not found.wrong and not broken and same and alive and flat and not forged
    record = {
        "files": len(rows),
        "times": times,
        "at_once": options.at_once,
        "max_megapixels": most,
        "outcomes_by_class": found.outcomes,
        "statuses": found.statuses,
        "wrong": found.wrong,
        "refused_after_ten_seconds": found.slow,
        "slowest_refusal_seconds": found.slowest_refusal_seconds,
        "control_image_the_same": same,
        "server_alive": alive,
        "levels": levels,
        "held": right,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    for kind, outcomes in sorted(found.outcomes.items()):
        print(f"  {kind:5} " + ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())))
    for each in (*found.wrong[:20], *(f"slow: {each}" for each in found.slow[:20])):
        print(f"  {each}")
    print(
        f"{len(rows)} files {times} times, {options.at_once} at once: {len(found.wrong)} not as expected, "
        f"{broken} INTERNAL or UNKNOWN, slowest refusal {found.slowest_refusal_seconds:.1f} s, control image "
        f"{'the same' if same else 'CHANGED'}, server {'alive' if alive else 'DEAD'}; RSS "
        f"{before.rss_bytes >> 20} -> {after.rss_bytes >> 20} MiB, descriptors {before.descriptors} -> "
        f"{after.descriptors}, buffers {before.buffers} -> {after.buffers}, threads "
        f"{before.threads} -> {after.threads}, processes {before.processes} -> "
        f"{after.processes}, shared files {before.shared_files} -> {after.shared_files}"
    )
    return 0 if right else 1


def _whole(
    rows: list[dict[str, str]], times: int, at_once: int, max_pixels: int
) -> tuple[Run, Levels, Levels, bool, bool, bool]:
    run = Run()
    with tempfile.TemporaryDirectory(prefix="upscaled-soak-") as name:
        log = Path(name) / "server.log"
        limit = {"UPSCALED_MAX_INPUT_PIXELS": str(max_pixels)}
        with running_server(log, UPSCALED_LOG_LEVEL="debug", **limit) as server:
            first = control(server)
            one_round(server, rows, at_once, run)
            before = settled(server)
            for _ in range(times - 1):
                one_round(server, rows, at_once, run)
            same = control(server) == first
            after = settled(server)
            alive = server.process.poll() is None
        lines = log.read_text(errors="replace").splitlines()
    return run, before, after, same, alive, any(line.startswith("FORGED-41") for line in lines)


def _flat(before: Levels, after: Levels) -> bool:
    return (
        after.rss_bytes - before.rss_bytes < _RSS_SLACK_BYTES
        and after.processes <= before.processes
        and after.threads <= before.threads + 2
        and after.descriptors <= before.descriptors + 2
        and after.buffers <= _KEPT_BUFFERS
        and after.shared_files <= before.shared_files
    )


if __name__ == "__main__":
    sys.exit(main())
