"""All scenarios one after the other, or those that are named: `python -m tests.chaos [NAME …] [--short]`.

Each is a process of its own, so that none begins with what another one has left. What begins with `-` goes to
each of them.
"""

from __future__ import annotations

import subprocess
import sys

SCENARIOS = (
    "jobs",
    "transfers",
    "slow_uploads",
    "silent_peers",
    "http2_resets",
    "client_leaves",
    "deadlines",
    "wrong_keys",
    "names",
    "log_injection",
    "queue_growth",
    "slow_readers",
    "protobuf",
    "numbers",
)
# Take Envoy and a whole cluster, and are run when they are named: `make cluster-chaos`.
CLUSTER = ("cluster_jobs", "cluster_cut", "cluster_rolling")


def main(arguments: list[str]) -> int:
    names = [each for each in arguments if not each.startswith("-")] or list(SCENARIOS)
    if unknown := [each for each in names if each not in (*SCENARIOS, *CLUSTER)]:
        there = ", ".join((*SCENARIOS, *CLUSTER))
        print(f"no such scenario: {', '.join(unknown)}; there are {there}", file=sys.stderr)
        return 2
    options = [each for each in arguments if each.startswith("-")]
    failed = [
        name
        for name in names
        if subprocess.run([sys.executable, "-m", f"tests.chaos.{name}", *options], check=False).returncode
    ]
    if failed:
        print(f"did not hold: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
