"""Runs a guided target in a process of its own and reads what libFuzzer says of it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import REPO
from tests.fuzz.record import Found

_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+)")
_INPUT = re.compile(r"Test unit written to (\S+)")
# libFuzzer looks at the clock between inputs, and the last of them may take its own limit.
_GRACE_SECONDS = 120.0


def fuzz(name: str, seconds: float, seed: int, kept: Path) -> Found:
    """`kept`: the folder for inputs that are findings, and for the corpus that grows."""
    kept.mkdir(parents=True, exist_ok=True)
    found, began = Found(name), time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz.guided.run", name, f"{seconds:.0f}", str(seed), str(kept)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=REPO,
            timeout=seconds + _GRACE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found.note(f"no end {_GRACE_SECONDS:g} s after its time was up")
        return found
    finally:
        found.seconds = time.monotonic() - began
    said = done.stdout + done.stderr
    covered = _COVERED.findall(said)
    found.coverage = int(covered[-1]) if covered else None
    executed = _EXECUTIONS.search(said)
    found.executions = int(executed[1]) if executed else 0
    if done.returncode or not executed:
        (kept / f"{name}.log").write_text(said)
        written = _INPUT.search(said)
        found.note(
            f"ended with {done.returncode}; input: {written[1] if written else 'none'}; {kept}/{name}.log"
        )
    return found
