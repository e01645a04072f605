"""The devices that images can be computed on, found without importing torch."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upscaled_server.engine.machine import usable_cores, usable_memory
from upscaled_server.errors import FailedPrecondition
from upscaled_server.pool.settings import PoolSettings

log = logging.getLogger("upscaled_server.pool")

_PROBE = Path(__file__).with_name("cuda_probe.py")
_PROBE_LIMIT_SECONDS = 20
# One of these exists wherever an NVIDIA driver can be reached (the last one under WSL).
_DRIVER_FILES = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")

Found = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Device:
    """Something that one worker process runs networks on.

    `cores` is how many pieces of an image it computes at a time (`parallel` of a plan); `memory_bytes` is
    what there is, `budget_bytes` what open runs may use of it.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    title: str
    cores: int
    memory_bytes: int
    budget_bytes: int

    @property
    def run_budget_bytes(self) -> int:
        """What a plan may take for one run, so that small ones find room beside it."""
        return self.budget_bytes * 3 // 4


def find_devices(settings: PoolSettings, probe: Callable[[], Found] | None = None) -> tuple[Device, ...]:
    """The devices that the settings ask for, in their order; never none.

    Blocks, for at most 20 seconds. Raises `FailedPrecondition` when a device that is named does not exist.
    """
    if settings.devices == "cpu":
        return (_cpu(settings),)
    cuda = {f"cuda:{each['index']}": each for each in (probe or probe_cuda)()}
    if settings.devices == "auto":
        return tuple(_cuda(name, each, settings) for name, each in cuda.items()) or (_cpu(settings),)
    names = settings.devices.split(",")
    for name in names:
        if name not in cuda:
            there = ", ".join(["cpu", *cuda])
            raise FailedPrecondition(
                f"UPSCALED_DEVICES names {name}, which does not exist here; there is {there}"
            )
    return tuple(_cuda(name, cuda[name], settings) for name in names)


def probe_cuda() -> Found:
    """What `cuda_probe.py` finds, in a child process; an empty list where there is no driver or it does not
    answer.
    """
    if not any(Path(file).exists() for file in _DRIVER_FILES):
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PROBE)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_LIMIT_SECONDS,
            check=True,
        )
        found: Found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("there is an NVIDIA driver, but it did not list its devices: %s", error)
        return []
    return found


def _cpu(settings: PoolSettings) -> Device:
    cores, memory = settings.threads or usable_cores(), usable_memory()
    return Device(
        name="cpu",
        kind="cpu",
        title=_cpu_title(),
        cores=cores,
        memory_bytes=memory,
        budget_bytes=settings.memory_budget_bytes or memory // 2,
    )


def _cuda(name: str, found: dict[str, Any], settings: PoolSettings) -> Device:
    memory = int(found["memory_bytes"])
    return Device(
        name=name,
        kind="cuda",
        title=str(found["title"]),
        cores=1,
        memory_bytes=memory,
        budget_bytes=settings.memory_budget_bytes or memory * 8 // 10,
    )


def _cpu_title() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
