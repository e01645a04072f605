"""The days that are compared: the same traffic, with one thing changed at a time."""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.autoscaling.scaler import ScalerSettings
from tests.benchmarks.autoscaling.simulate import Scenario
from tests.benchmarks.autoscaling.traffic import Mix
from upscaled._retry import Retries
from upscaled_server.pool.settings import PoolSettings

MAIN, TUNED = "autoscaled", "lower_target_short_queue"


def scenarios(megapixels_per_second: float) -> dict[str, Scenario]:
    """`megapixels_per_second`: what one device does."""
    scaler = ScalerSettings()
    # Whatever the environment of whoever runs this says.
    defaults = PoolSettings.model_construct()
    main = Scenario(mix=Mix(megapixels_per_second), scaler=scaler, pool=defaults)
    short_queue = defaults.model_copy(update={"max_pending_seconds": 10.0})
    quick = replace(scaler, queue_target=10.0)
    return {
        MAIN: main,
        "lower_target": replace(main, scaler=quick),
        "with_busy": replace(main, scaler=replace(scaler, busy_target=0.7)),
        "more_at_least": replace(main, scaler=replace(scaler, minimum=5)),
        "slow_start": replace(main, scaler=replace(scaler, start_seconds=300.0)),
        "short_queue": replace(main, pool=short_queue),
        TUNED: replace(main, scaler=quick, pool=short_queue),
        "no_retries": replace(main, retries=Retries(max_retries=0)),
        "fixed": replace(main, scaler=None, replicas=5),
        "fixed_at_the_peak": replace(main, scaler=None, replicas=scaler.maximum),
    }
