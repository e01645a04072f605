"""What computes here: CUDA if torch sees a card, else the CPU through ncnn, else the CPU through torch."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from upscaled_server.engine.machine import usable_cores, usable_memory
from upscaled_server.errors import FailedPrecondition

BackendName = Literal["ncnn", "torch", "realesrgan"]
DeviceKind = Literal["cpu", "cuda"]
BackendChoice = Literal["auto", "ncnn", "torch"]
Precision = Literal["fp32", "bf16", "fp16"]

# Without a stated budget a run may use this share of the memory that is free for us.
_MEMORY_SHARE = 0.4

# And never more than this of what is free on a card: beside tensors there are its own tables and the weights.
_CARD_SHARE = 0.8

_CUDA_NAME = re.compile(r"cuda(?::(\d+))?")

# The extra that installs each backend, and the modules it needs.
_EXTRAS: dict[BackendName, str] = {"ncnn": "server", "torch": "torch", "realesrgan": "realesrgan"}
_MODULES: dict[BackendName, tuple[str, ...]] = {
    "ncnn": ("ncnn",),
    "torch": ("torch",),
    "realesrgan": ("realesrgan", "torch"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """One device and how it is used. `backend` is its own, which others may stand in for (`on`).
    `parallel`: cores of a CPU, 1 for a card. `budget_bytes` bounds one run. `index`: which card, of those
    that this process sees. `precision` is what networks on it begin with; a card takes a finer one for
    those that need it."""

    kind: DeviceKind
    name: str
    backend: BackendName
    precision: Precision
    parallel: int
    budget_bytes: int
    index: int = 0

    @property
    def backends(self) -> tuple[BackendName, ...]:
        """What can compute on it here: its own first, then the others that are installed."""
        able: tuple[BackendName, ...] = ("ncnn", "torch") if self.kind == "cpu" else ("torch",)
        others: tuple[BackendName, ...] = (*able, "realesrgan")
        return tuple(dict.fromkeys((self.backend, *(name for name in others if backend_installed(name)))))

    def on(self, backend: str) -> Device:
        """This device with another backend; an empty name is its own.

        Raises `FailedPrecondition`, naming the extra, where that is not to be had.
        """
        if backend in ("", self.backend):
            return self
        for name in self.backends:
            if name == backend:
                return replace(self, backend=name, precision=self.precision if name == "torch" else "fp32")
        raise backend_missing(backend)


def backend_installed(backend: BackendName) -> bool:
    """Whether the packages are there; nothing is imported."""
    return all(_installed(module) for module in _MODULES[backend])


def backend_missing(backend: str) -> FailedPrecondition:
    """Why a backend cannot be used here."""
    for name, extra in _EXTRAS.items():
        if name == backend and not backend_installed(name):
            return FailedPrecondition(
                f"the backend {backend} is not installed on this server; pip install 'upscaled[{extra}]'",
                backend=backend,
                extra=extra,
            )
    return FailedPrecondition(f"the backend {backend} does not run on this device", backend=backend)


def choose_device(
    device: str = "auto",
    backend: BackendChoice = "auto",
    precision: Literal["auto"] | Precision = "auto",
    *,
    parallel: int | None = None,
    budget_bytes: int | None = None,
) -> Device:
    """The device to use: `auto`, `cpu`, `cuda` or `cuda:<index>`. `parallel` and `budget_bytes` default to
    the CPU cores and a share of the memory we may use.

    torch is imported only where there is a card or nothing else computes. Raises `FailedPrecondition`, saying
    what is missing, if the choice cannot be had.
    """
    cuda = _CUDA_NAME.fullmatch(device)
    if cuda is None and device not in ("auto", "cpu"):
        raise FailedPrecondition(f"there is no device {device}; there are auto, cpu, cuda and cuda:<index>")
    if device != "cpu" and backend != "ncnn" and (cuda or _may_have_cuda()):
        index = int(cuda[1] or 0) if cuda else 0
        found = _cuda(index, precision, budget_bytes)
        if found is not None:
            return found
        if cuda:
            raise FailedPrecondition(
                f"no CUDA device {index}: torch is missing, was built for CPU only, or sees no such card"
            )
    if cuda:
        raise FailedPrecondition("CUDA needs the torch backend", backend=backend)
    if precision not in ("auto", "fp32"):
        raise FailedPrecondition(f"{precision} is for CUDA devices; a CPU computes in fp32")
    chosen: BackendName = (
        "ncnn" if backend == "ncnn" or (backend == "auto" and _installed("ncnn")) else "torch"
    )
    if not _installed(chosen):
        raise FailedPrecondition(
            f"the backend {chosen} is not installed; pip install 'upscaled[server]' or 'upscaled[torch]'"
        )
    return Device(
        kind="cpu",
        name=_cpu_name(),
        backend=chosen,
        precision="fp32",
        parallel=parallel or usable_cores(),
        budget_bytes=budget_bytes or int(usable_memory() * _MEMORY_SHARE),
    )


def _may_have_cuda() -> bool:
    return _installed("torch") and any(Path("/dev").glob("nvidia[0-9]*"))


def _cuda(index: int, precision: Literal["auto"] | Precision, budget_bytes: int | None) -> Device | None:
    if not _installed("torch"):
        return None
    import torch

    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        return None
    free, _ = torch.cuda.mem_get_info(index)
    return Device(
        kind="cuda",
        name=torch.cuda.get_device_name(index),
        backend="torch",
        precision="fp16" if precision == "auto" else precision,
        parallel=1,
        budget_bytes=min(budget_bytes or free, int(free * _CARD_SHARE)),
        index=index,
    )


@cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "CPU"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
