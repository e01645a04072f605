"""Every target one after the other.

python -m tests.fuzz [--seconds 600] [--short] [--only NAME …] [--seed N] [--out bench-results/fuzz.json]

Each ends in a line of figures; all are in the record, and inputs that are findings beside it. Ends with 1 if
there is a finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fuzz import images, record, rpcs, uploads
from tests.fuzz.guided import TARGETS, driver

_SHORT_SECONDS = 7.0

Target = Callable[[float, int, Path], record.Found]


def _targets() -> dict[str, Target]:
    own: dict[str, Target] = {"images": images.fuzz, "rpcs": rpcs.fuzz, "uploads": uploads.fuzz}
    return own | {name: partial(driver.fuzz, name) for name in TARGETS}


def main() -> int:
    targets = _targets()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--short", action="store_true", help=f"{_SHORT_SECONDS:g} seconds for each target")
    parser.add_argument("--only", nargs="+", choices=sorted(targets), metavar="NAME", help=", ".join(targets))
    parser.add_argument("--seed", type=int, help="another one each time where it is not given")
    parser.add_argument("--out", type=Path, default=Path("bench-results/fuzz.json"))
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing; install upscaled[fuzz]")
    seconds = _SHORT_SECONDS if options.short else options.seconds
    # libFuzzer takes 32 bits, and 0 for "make one up".
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31 - 1) + 1
    print(f"seed {seed}, {seconds:g} s for each target", flush=True)
    kept = options.out.parent / "fuzz"
    found = []
    for name in options.only or targets:
        found.append(targets[name](seconds, seed, kept))
        print(found[-1].line, flush=True)
    record.write(options.out, found, seed=seed, seconds=seconds)
    findings = sum(len(each.findings) for each in found)
    executions = sum(each.executions for each in found)
    print(f"{len(found)} targets, {executions} executions, {findings} findings; {options.out}, {kept}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
