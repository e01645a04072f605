"""What the pool is doing now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What the pool is doing now, for logs and metrics."""

    open_runs: int
    waiting_runs: int
    waiting_steps: int
    seconds_pending: float
    workers_up: int
    worker_restarts: int
