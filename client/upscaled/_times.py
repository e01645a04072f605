"""Points in time and spans between the caller's values and the contract's messages."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from upscaled._errors import InvalidOptionError

# Of a protobuf Duration.
_LONGEST_SECONDS: Final = 315_576_000_000


def when(message: Any, name: str) -> datetime | None:
    """A field that is a point in time, in UTC; `None` where it is not set."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)


def timestamp(option: str, value: datetime | date | None) -> Timestamp | None:
    """A date is its first moment in UTC. InvalidOptionError for a datetime without a time zone."""
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(), UTC)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidOptionError(
            f"{option}: a date, or a datetime with a time zone (such as datetime.now(UTC)); got {value!r}"
        )
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def duration(option: str, value: timedelta | float | None) -> Duration | None:
    """A span of time, given as such or in seconds. InvalidOptionError unless it is above 0 and finite."""
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOptionError(f"{option}: seconds or a timedelta; got {value!r}")
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidOptionError(f"{option}: more than 0 seconds, at most 10,000 years; got {value!r}")
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span
