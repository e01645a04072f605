"""When a call is tried again, and how long it waits."""

from __future__ import annotations

import asyncio

import pytest

from upscaled import (
    DeadlineExceededError,
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
    OverloadedError,
    QuotaExceededError,
    Retries,
    UnavailableError,
    UpscaledError,
)
from upscaled._retry import Attempts, Deadline


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every wait is over at once, and noted."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waits


async def test_the_wait_grows_and_is_bounded(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    attempts = Attempts(Retries(max_retries=5, initial_seconds=1, max_seconds=4), Deadline(None))
    for _ in range(5):
        await attempts.pause(UnavailableError("gone"))
    assert slept == [1, 2, 4, 4, 4]
    with pytest.raises(UnavailableError):
        await attempts.pause(UnavailableError("gone"))


async def test_the_wait_is_never_shorter_than_the_server_asked(slept: list[float]) -> None:
    await Attempts(Retries(), Deadline(None)).pause(OverloadedError("full", retry_after=3.0))
    assert 3.0 <= slept[0] <= 3.3


async def test_a_wait_that_would_pass_the_deadline_is_not_begun(slept: list[float]) -> None:
    with pytest.raises(OverloadedError):
        await Attempts(Retries(), Deadline(2.0)).pause(OverloadedError("full", retry_after=3.0))
    assert not slept


async def test_a_delay_beyond_patience_is_not_waited_for(slept: list[float]) -> None:
    with pytest.raises(OverloadedError):
        await Attempts(Retries(max_asked_seconds=60), Deadline(None)).pause(
            OverloadedError("full", retry_after=61)
        )
    assert not slept


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("wrong"),
        OverloadedError("no delay was named"),
        LimitExceededError("too large", retry_after=1),
        QuotaExceededError("used up", retry_after=1),
    ],
)
async def test_what_a_second_attempt_cannot_change_is_not_tried_again(
    slept: list[float], error: UpscaledError
) -> None:
    with pytest.raises(type(error)):
        await Attempts(Retries(), Deadline(None)).pause(error)
    assert not slept


async def test_a_deadline_that_has_passed_is_an_error() -> None:
    deadline = Deadline(1e-9)
    await asyncio.sleep(0.001)
    with pytest.raises(DeadlineExceededError):
        deadline.left()


async def test_senseless_settings_are_refused() -> None:
    for timeout in (0, -1, float("nan"), "3"):
        with pytest.raises(InvalidOptionError, match="timeout"):
            Deadline(timeout)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="retries"):
        Retries(max_retries=-1)
    with pytest.raises(InvalidOptionError, match="retries"):
        Retries.of("many")  # type: ignore[arg-type]
    assert Retries.of(2) == Retries(max_retries=2)
    assert Deadline(float("inf")).left() is None


async def test_what_has_begun_is_borne_longer_than_the_retries_and_what_has_not_is_not() -> None:
    retries = Retries(max_retries=1, initial_seconds=0.001, max_seconds=0.001)
    begun = Attempts(retries, Deadline(None), patience_seconds=60)
    begun.progressed()
    for _ in range(20):
        await begun.pause(UnavailableError("away"))
    fresh = Attempts(retries, Deadline(None), patience_seconds=60)
    await fresh.pause(UnavailableError("away"))
    with pytest.raises(UnavailableError):
        await fresh.pause(UnavailableError("away"))


async def test_patience_ends_and_no_retries_means_no_patience() -> None:
    retries = Retries(max_retries=1, initial_seconds=0.001, max_seconds=0.001)
    short = Attempts(retries, Deadline(None), patience_seconds=0.05)
    short.progressed()
    with pytest.raises(UnavailableError):
        for _ in range(10_000):
            await short.pause(UnavailableError("away"))
    none = Attempts(Retries(max_retries=0), Deadline(None), patience_seconds=60)
    none.progressed()
    with pytest.raises(UnavailableError):
        await none.pause(UnavailableError("away"))


async def test_progress_is_a_fresh_count() -> None:
    attempts = Attempts(Retries(max_retries=1, initial_seconds=0.001, max_seconds=0.001), Deadline(None))
    for _ in range(5):
        await attempts.pause(UnavailableError("away"))
        attempts.progressed()
    with pytest.raises(InvalidOptionError):
        await attempts.pause(InvalidOptionError("wrong"))
    attempts.progressed()
    await attempts.pause(InvalidOptionError("wrong, but worth another try"), retryable=True)
