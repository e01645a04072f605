"""Times and spans of time as people write them, both ways."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)?")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(value: str | None) -> datetime | None:
    """`2026-11-01` (its first moment, UTC), `2026-11-01T08:30` (UTC unless it says otherwise), or a span ago
    such as `2h` or `7d`. A callback of typer options.
    """
    if value is None:
        return None
    if _SPAN.fullmatch(value) and not value.isdigit():
        return datetime.now(UTC) - span_of(value)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(
            f"a date (2026-11-01), a time (2026-11-01T08:30) or a span ago (2h) is expected; got {value!r}"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def span(value: str | None) -> timedelta | None:
    """`90s`, `30min`, `12h`, `7d`, or seconds. A callback of typer options."""
    return None if value is None else span_of(value)


def span_of(value: str) -> timedelta:
    match = _SPAN.fullmatch(value.strip())
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"a span such as 90s, 30min, 12h or 7d is expected; got {value!r}")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2] or ""])


def shown(when: datetime | None) -> str:
    """To the second, in UTC; empty where there is none."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if when else ""
