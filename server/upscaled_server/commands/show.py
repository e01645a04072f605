"""Callers and keys as tables for people and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

_WIDTH_OF_PIPES = 200


def line(values: dict[str, Any]) -> None:
    typer.echo(json.dumps(values))


def keys(found: Iterable[Any], *, as_json: bool) -> None:
    """`upscaled.v1.Key` messages."""
    if as_json:
        for key in found:
            line(key_values(key))
        return
    rows = [
        (
            key.id,
            key.caller,
            "admin" if key.admin else "",
            _time(key, "create_time") or "from the file",
            _time(key, "last_use_time") or "never",
            _state(key),
            key.description,
        )
        for key in found
    ]
    _table(("key", "caller", "rights", "made", "last used", "state", "description"), rows)


def callers(found: Iterable[Any], *, as_json: bool) -> None:
    """`upscaled.v1.Caller` messages."""
    if as_json:
        for caller in found:
            line(caller_values(caller))
        return
    rows = [
        (
            caller.name,
            f"{caller.weight:g}",
            "batch" if caller.max_priority == 2 else "interactive",
            _limit(caller.max_concurrent),
            _limit(caller.max_requests_per_second, none="none"),
            _limit(caller.max_input_pixels),
            ", ".join(caller.allowed_models) or "all",
        )
        for caller in found
    ]
    _table(("caller", "weight", "priority", "at once", "per second", "input pixels", "models"), rows)


def key_values(key: Any) -> dict[str, Any]:
    return {
        "id": key.id,
        "caller": key.caller,
        "description": key.description,
        "admin": key.admin,
        "create_time": _time(key, "create_time"),
        "expire_time": _time(key, "expire_time"),
        "revoke_time": _time(key, "revoke_time"),
        "last_use_time": _time(key, "last_use_time"),
    }


def caller_values(caller: Any) -> dict[str, Any]:
    return {
        "name": caller.name,
        "weight": caller.weight,
        "max_priority": "batch" if caller.max_priority == 2 else "interactive",
        "max_concurrent": caller.max_concurrent,
        "max_queued_jobs": caller.max_queued_jobs,
        "max_requests_per_second": caller.max_requests_per_second,
        "max_input_pixels": caller.max_input_pixels,
        "allowed_models": list(caller.allowed_models),
        "max_stored_bytes": caller.max_stored_bytes,
        "monthly_credits": caller.monthly_credits if caller.HasField("monthly_credits") else None,
    }


def _state(key: Any) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {_time(key, 'revoke_time')}"
    if not key.HasField("expire_time"):
        return "works"
    ended = key.expire_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    return f"{'expired' if ended else 'until'} {_time(key, 'expire_time')}"


def _time(key: Any, field: str) -> str | None:
    if not key.HasField(field):
        return None
    text: str = getattr(key, field).ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")


def _limit(value: float, *, none: str = "default") -> str:
    return f"{value:g}" if value else none


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_PIPES  # a pipe has no width; never cut what a script reads
    console.print(table)
