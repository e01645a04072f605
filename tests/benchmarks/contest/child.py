"""The process of one entrant: `python -m tests.benchmarks.contest.child NAME MODEL IMAGE.npy LIMIT_BYTES`.

Says `{"ready": true}`, then answers a line `run` with the seconds and the memory, `warm` likewise, and
`save PATH` by writing the last result there. Whatever goes wrong is said as `{"failed": …}`, and a missing
entrant as `{"skipped": …}`; then it ends.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np

from tests.benchmarks.contest.entrants import Entrant, NotHere, preparer
from tests.benchmarks.contest.machine import status_bytes

_MEMORY_WORDS = ("allocate memory", "out of memory", "bad_alloc", "Cannot allocate", "not enough memory")


class _Line:
    """Answers go to the real standard output; what libraries print goes to standard error."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **answer: Any) -> None:
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()


def _serve(entrant: Entrant, line: _Line) -> None:
    result = None
    for command in sys.stdin:
        word, _, path = command.strip().partition(" ")
        if word == "save":
            np.save(path, entrant.pixels(result))
            line.say(saved=True)
            continue
        result = None
        gc.collect()
        with entrant.warming() if word == "warm" else nullcontext():
            began = time.perf_counter()
            result = entrant.run()
            seconds = time.perf_counter() - began
        peak = status_bytes("VmHWM") if entrant.peak_bytes is None else entrant.peak_bytes()
        line.say(seconds=seconds, peak_bytes=peak, notes=entrant.notes())


def main() -> None:
    name, model, image, limit = sys.argv[1:]
    line = _Line()
    # Private memory, not address space: libraries reserve far more of that than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    try:
        entrant = preparer(name)(model, np.load(image))
        with entrant.holding:
            line.say(ready=True)
            _serve(entrant, line)
    except NotHere as error:
        line.say(skipped=str(error))
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        memory = isinstance(error, MemoryError) or any(word in words for word in _MEMORY_WORDS)
        line.say(failed="out of memory" if memory else words.splitlines()[0][:300])
    finally:
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
