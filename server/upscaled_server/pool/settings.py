"""Settings of the pool: `UPSCALED_DEVICES`, `UPSCALED_THREADS` and so on."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.pool.faults import parse_faults

_DEVICES = re.compile(r"auto|cpu|cuda:\d+(,cuda:\d+)*")


class PoolSettings(BaseSettings):
    """Where images are computed, and how many at a time."""

    model_config = SettingsConfigDict(
        env_prefix="UPSCALED_", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    devices: str = "auto"
    """`auto` (every CUDA device, else the CPU), `cpu`, or a list such as `cuda:0,cuda:1`."""

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Cores that a CPU worker uses. Default: what the process may use (affinity and cgroup quota)."""

    band_rows: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] | None = None
    """Rows of the bands that a CPU computes larger images in, for every model. Where the memory does not
    suffice they are lower. Default: chosen for each image by its model and width. Pinned, and with the same
    threads and memory budget, replicas cut every image alike, so it comes out the same byte for byte;
    `upscaled calibrate` measures what suits a machine.
    """

    memory_budget_bytes: Annotated[int, Field(ge=64 << 20)] | None = None
    """Bytes per device for the runs that are open, working memory included.

    Of a CPU's, an eighth stays with the worker between images, since fresh memory takes time to fill.
    Default: half of the memory that the machine or the cgroup allows, or 80% of a CUDA device's.
    """

    max_open_runs: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Runs that share one device, each getting its steps in turn. Further ones wait."""

    max_waiting_runs: Annotated[int, Field(ge=0, le=100_000)] = 128
    """Runs that may wait for a place. Further ones are refused with the seconds after which to try again."""

    warm_models: str = ""
    """Models that a worker has loaded and tried before it is given work, separated by commas. A worker that
    follows another one has those of that one as well. Health says SERVING once one device has all of them;
    what could not be loaded is tried again.
    """

    model_budget_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes per device for models in memory; beyond it the least recently used ones are let go of. Default: a
    quarter of the device's memory.
    """

    max_pending_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Device seconds of other work that may be done before new work is, by the speed that was measured; with
    more pending it is refused. Interactive work counts interactive work only.
    """

    aging_seconds: Annotated[float, Field(ge=0)] = 30.0
    """Batch work that has waited for this long goes with interactive work."""

    steps_ahead: Annotated[int, Field(ge=1, le=8)] = 2
    """Steps of interactive work that a worker is given at a time: with 2, the next one begins while the
    result of the last is on its way. Of batch work it is given one.
    """

    worker_nice: Annotated[int, Field(ge=0, le=19)] = 5
    """How far a CPU worker steps back behind the server's own process, so that calls are answered under full
    load. Encoding steps back further.
    """

    worker_start_limit_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A worker that has not answered by then is killed and started again."""

    step_limit_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A step that takes longer than this and 20 times its estimate is a hang: the worker is killed."""

    load_limit_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Loading a model, the download of its weights included, fails after this."""

    heartbeat_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How often a worker is asked whether it is alive."""

    heartbeat_limit_seconds: Annotated[float, Field(gt=0)] = 30.0
    """A worker that does not answer for this long is killed."""

    drain_seconds: Annotated[float, Field(ge=0)] = 25.0
    """How long open runs may go on after the server was told to stop."""

    faults: str = ""
    """For tests only: faults on purpose, as `crash:0.01,hang:0.001,oom:0.01,nan:0.01,slow:0.1`, each with its
    probability in every step.
    """

    @property
    def warm_names(self) -> list[str]:
        return [name for name in self.warm_models.replace(" ", "").split(",") if name]

    @field_validator("faults")
    @classmethod
    def _check_faults(cls, value: str) -> str:
        parse_faults(value)
        return value

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, value: str) -> str:
        value = value.replace(" ", "").lower()
        if not _DEVICES.fullmatch(value):
            raise ValueError("UPSCALED_DEVICES is auto, cpu, or a list such as cuda:0,cuda:1")
        names = value.split(",")
        if len(set(names)) != len(names):
            raise ValueError("UPSCALED_DEVICES names a device twice")
        return value
