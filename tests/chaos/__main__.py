"""All scenarios, or those that are named: `python -m tests.chaos [NAME …] [--together N] [--short]`.

Each is a process of its own, so that none begins with what another one has left. `--together`: so many run at
a time, but for those that measure how long something takes. Other options go to each of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# What they find does not depend on how busy the machine is.
PATIENT = (
    "jobs",
    "transfers",
    "silent_peers",
    "client_leaves",
    "names",
    "log_injection",
    "numbers",
    "worker_kills",
    "graceful_stop",
    "corrupt_database",
    "polyglots",
    "ssrf",
    "receiver_down",
    "webhook_signature",
    "weights",
)
# What they find does: they measure seconds or memory.
ALONE = (
    "slow_uploads",
    "http2_resets",
    "deadlines",
    "wrong_keys",
    "queue_growth",
    "slow_readers",
    "protobuf",
    "bombs",
    "hostile_origin",
    "full_disk",
)
# Take Envoy and a whole cluster, and are run when they are named: `make cluster-chaos`.
CLUSTER = ("cluster_jobs", "cluster_cut", "cluster_rolling")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all but those of a cluster")
    parser.add_argument("--together", type=int, default=1, metavar="N", help="so many at a time")
    given, options = parser.parse_known_args()
    there = (*PATIENT, *ALONE, *CLUSTER)
    if unknown := [each for each in given.names if each not in there]:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(there)}")
    names = given.names or [*PATIENT, *ALONE]
    with ThreadPoolExecutor(given.together) as together:
        held = list(together.map(lambda name: _run(name, options), [n for n in names if n in PATIENT]))
    held += [_run(name, options) for name in names if name not in PATIENT]
    if failed := [name for name, ok in held if not ok]:
        print(f"did not hold: {', '.join(failed)}", file=sys.stderr)
    return 0 if all(ok for _, ok in held) else 1


def _run(name: str, options: list[str]) -> tuple[str, bool]:
    """The scenario's output comes when it ends, so that those of several are not mixed."""
    began = time.monotonic()
    command = [sys.executable, "-m", f"tests.chaos.{name}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(f"{done.stdout.rstrip()}\n  ({name}: {time.monotonic() - began:.0f} s in all)", flush=True)
    return name, not done.returncode


if __name__ == "__main__":
    sys.exit(main())
