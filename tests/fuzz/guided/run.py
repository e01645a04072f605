"""One target until its time is up or it fails: `python -m tests.fuzz.guided.run NAME SECONDS SEED FOLDER`.

Ends with 0, or with libFuzzer's status and the input in FOLDER. A file after FOLDER is run alone.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

_SLOWEST_SECONDS = 20
_MOST_MEBIBYTES = 3072
_LONGEST_INPUT_BYTES = 1 << 16


def main() -> None:
    name, seconds, seed, folder, *files = sys.argv[1:]
    with atheris.instrument_imports(include=["upscaled", "upscaled_server"]):
        target = importlib.import_module(f"tests.fuzz.guided.{name}")
    findings = Path(folder)
    corpus = findings / f"{name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number:04}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-timeout={_SLOWEST_SECONDS}",
        f"-rss_limit_mb={_MOST_MEBIBYTES}",
        f"-max_len={_LONGEST_INPUT_BYTES}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, *(files or [str(corpus)])], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
