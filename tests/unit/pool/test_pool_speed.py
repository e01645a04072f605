"""Measured speed."""

from __future__ import annotations

import pytest

from upscaled_server.pool.speed import Speed


def test_nothing_is_claimed_before_anything_was_measured() -> None:
    assert Speed().seconds_per_pixel("cpu", "a") is None


def test_each_model_and_device_has_its_own_mean() -> None:
    speed = Speed()
    speed.note("cpu", "a", 1000, 1.0)
    speed.note("cpu", "b", 1000, 2.0)

    assert speed.seconds_per_pixel("cpu", "a") == pytest.approx(1e-3)
    assert speed.seconds_per_pixel("cpu", "b") == pytest.approx(2e-3)
    assert speed.seconds_per_pixel("cuda:0", "a") is None


def test_a_thumbnail_hardly_moves_the_mean_and_a_change_of_speed_is_learnt() -> None:
    speed = Speed()
    for _ in range(20):
        speed.note("cpu", "a", 1_000_000, 1.0)
    speed.note("cpu", "a", 100, 1.0)  # ten thousand times slower per pixel
    assert speed.seconds_per_pixel("cpu", "a") == pytest.approx(1e-6, rel=0.3)

    for _ in range(20):
        speed.note("cpu", "a", 1_000_000, 3.0)
    assert speed.seconds_per_pixel("cpu", "a") == pytest.approx(3e-6, rel=0.05)


def test_nonsense_is_ignored() -> None:
    speed = Speed()
    speed.note("cpu", "a", 0, 1.0)
    speed.note("cpu", "a", 10, 0.0)
    speed.note("cpu", "a", 10, float("nan"))
    assert speed.seconds_per_pixel("cpu", "a") is None
