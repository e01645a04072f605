"""The whole corpus of image files through a running server, several at once, several times.

python -m tests.soak --corpus [--times 3] [--at-once 8] [--max-megapixels 50] [--short]
    [--out FILE]

Each file must be refused or enlarged as its manifest says. A control image must give the same bytes before
and afterwards; and what the server holds must be what it held after the first round.
"""

from __future__ import annotations

import csv
import hashlib
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
from tests.reliability.record import Record, arguments, end
from tests.soak.levels import KEPT_BUFFERS, Levels
from upscaled import Client, UpscaledError

_CORPUS = REPO.parent / "shared" / "corpus"
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_SECONDS_TO_REFUSE = 10.0
_DEADLINE_SECONDS = 600.0
_SHORT_EVERY = 12
_SETTLE_SECONDS = 15.0
_SHOWN = 20
_SIDE = 64  # of the answer; the network enlarges the whole picture all the same
_MARKER = b"CORPUS-MARKER-41"
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
    """What is held once decoders that were just killed are gone."""
    time.sleep(_SETTLE_SECONDS)
    return Levels.of(server.process.pid)


def main() -> int:
    parser = arguments("soak_corpus", (__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument(
        "--max-megapixels", type=float, default=50.0, help="the server's limit; a slow machine takes less"
    )
    options = parser.parse_args()
    if not _CORPUS.is_dir():
        print("soak of the corpus: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    rows = files(every=_SHORT_EVERY if options.short else 1)
    times, most = (2, 1.5) if options.short else (options.times, options.max_megapixels)
    record = Record(
        scenario="soak_corpus",
        row="Bad images",
        what=f"{len(rows)} files that people and attackers send, {times} times, {options.at_once} at once, "
        f"images of more than {most:g} megapixels refused by the limit.",
        short=options.short,
    )
    began = time.monotonic()
    _soak(record, rows, times, options.at_once, round(most * 1e6))
    record.seconds = round(time.monotonic() - began, 1)
    return end(record, options.out)


def _soak(record: Record, rows: list[dict[str, str]], times: int, at_once: int, max_pixels: int) -> None:
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
            _hold(record, "control_images_that_changed", int(control(server) != first))
            after = settled(server)
            _hold(record, "server_deaths", int(server.process.poll() is not None))
        forged = sum(line.startswith("FORGED-41") for line in log.read_text(errors="replace").splitlines())
    _hold(record, "forged_lines_in_the_log", forged)
    _hold(record, "internal_or_unknown", run.statuses["INTERNAL"] + run.statuses["UNKNOWN"])
    _note_outcomes(record, run)
    _note_levels(record, before, after)


def _note_outcomes(record: Record, run: Run) -> None:
    record.tried = run.statuses.total()
    record.held = record.tried - len(run.wrong)
    record.not_held += [*run.wrong[:_SHOWN], *(f"slow to refuse: {each}" for each in run.slow[:_SHOWN])]
    for kind, outcomes in sorted(run.outcomes.items()):
        record.figures |= {f"{kind}_{outcome}": count for outcome, count in sorted(outcomes.items())}
    record.figures["slowest_refusal_seconds"] = round(run.slowest_refusal_seconds, 2)


def _note_levels(record: Record, before: Levels, after: Levels) -> None:
    for name, value in asdict(before).items():
        record.figures[f"{name}_after_the_first_round"] = value
        record.figures[f"{name}_at_the_end"] = asdict(after)[name]
    if not _flat(before, after):
        record.not_held.append("the server holds more at the end than after the first round")


def _hold(record: Record, name: str, value: int) -> None:
    """What must be 0."""
    record.figures[name] = value
    if value:
        record.not_held.append(f"{name}: {value}")


def _flat(before: Levels, after: Levels) -> bool:
    return (
        after.rss_bytes - before.rss_bytes < _RSS_SLACK_BYTES
        and after.processes <= before.processes
        and after.threads <= before.threads + 2
        and after.descriptors <= before.descriptors + 2
        and after.buffers <= KEPT_BUFFERS
        and after.shared_files <= before.shared_files
    )


if __name__ == "__main__":
    sys.exit(main())
