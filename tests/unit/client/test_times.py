"""Times and spans reach the contract exactly, or are refused in words."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from upscaled import InvalidOptionError
from upscaled._times import duration, timestamp, when
from upscaled.v1 import jobs_pb2


def test_a_time_survives_the_way_there_and_back() -> None:
    east = datetime(2026, 11, 1, 3, 30, 0, 250_000, timezone(timedelta(hours=2)))
    job = jobs_pb2.Job(create_time=timestamp("start", east))
    assert when(job, "create_time") == east
    assert when(job, "end_time") is None


def test_a_date_is_its_first_moment_in_utc() -> None:
    found = timestamp("start", date(2026, 11, 1))
    assert found is not None
    assert found.ToDatetime(UTC) == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", [datetime(2026, 11, 1), "2026-11-01", 1_700_000_000])
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    with pytest.raises(InvalidOptionError, match=r"^start: .*time zone"):
        timestamp("start", value)  # type: ignore[arg-type]


def test_a_span_is_seconds_or_a_timedelta() -> None:
    for value in (1.5, timedelta(seconds=1.5)):
        found = duration("wait", value)
        assert found is not None
        assert (found.seconds, found.nanos) == (1, 500_000_000)
    assert duration("wait", None) is None


@pytest.mark.parametrize("value", [0, -1, True, "3", float("nan"), float("inf"), 1e300, timedelta(0)])
def test_a_span_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InvalidOptionError, match=r"^wait: "):
        duration("wait", value)  # type: ignore[arg-type]
