"""A caller and what it may do: the value that goes with a call through the pipeline to the devices."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from upscaled_server.errors import InvalidField, PermissionDenied

MAX_ALLOWED_MODELS = 100
# Far above any machine, far below what JSON and SQLite count exactly.
_LARGEST = 2**53 - 1

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


class Priority(StrEnum):
    """Which queue work stands in."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call. Units and meanings are those of `upscaled.v1.Caller`; 0 and empty mean the
    server's own limit.

    `name` is part of keys in the store.
    """

    name: str
    weight: float = 1.0
    max_priority: Priority = Priority.INTERACTIVE
    max_concurrent: int = 0
    max_queued_jobs: int = 0
    max_requests_per_second: float = 0.0
    max_input_pixels: int = 0
    allowed_models: tuple[str, ...] = ()
    max_stored_bytes: int = 0
    monthly_credits: float | None = None

    def check(self, field: str = "caller") -> None:
        """Raises `InvalidField`, naming the field below `field`, for values outside their limits."""
        if not _NAME.fullmatch(self.name):
            raise InvalidField(
                f"{field}.name",
                "is not a caller's name",
                limit="1 to 63 of a-z, 0-9 and -, a letter first",
                actual=ascii(self.name[:80]),
            )
        _check_number(f"{field}.weight", self.weight, 0.01, 1000)
        _check_number(f"{field}.max_requests_per_second", self.max_requests_per_second, 0, 1e6)
        for name in ("max_concurrent", "max_queued_jobs"):
            _check_number(f"{field}.{name}", getattr(self, name), 0, 2**31 - 1)
        for name in ("max_input_pixels", "max_stored_bytes"):
            _check_number(f"{field}.{name}", getattr(self, name), 0, _LARGEST)
        if self.monthly_credits is not None:
            _check_number(f"{field}.monthly_credits", self.monthly_credits, 0, 1e12)
        if len(self.allowed_models) > MAX_ALLOWED_MODELS:
            raise InvalidField(
                f"{field}.allowed_models",
                "has too many names",
                limit=MAX_ALLOWED_MODELS,
                actual=len(self.allowed_models),
            )

    def check_model(self, name: str) -> None:
        """Raises `PermissionDenied` for a model that is not among the allowed ones. By catalogue name."""
        if self.allowed_models and name not in self.allowed_models:
            raise PermissionDenied(
                f"options.model: {name} is not among the models that caller {self.name} may use: "
                + ", ".join(self.allowed_models),
                field="options.model",
                actual=name,
            )

    def priority_for(self, asked: Priority | None, default: Priority) -> Priority:
        """What to work at. Raises `PermissionDenied` for more than is allowed; who does not ask gets what is
        allowed."""
        if self.max_priority is Priority.BATCH:
            if asked is Priority.INTERACTIVE:
                raise PermissionDenied(
                    f"options.priority: caller {self.name} may ask for PRIORITY_BATCH at most; "
                    "leave it out or set that",
                    field="options.priority",
                    limit="PRIORITY_BATCH",
                    actual="PRIORITY_INTERACTIVE",
                )
            return Priority.BATCH
        return asked or default

    def pixels_within(self, limit: int) -> int:
        """The largest input, in pixels, where the server's own limit is `limit`."""
        return min(limit, self.max_input_pixels or limit)


ANONYMOUS = Caller("-")
"""Whoever calls a server without keys. No caller that is made can have this name."""


def _check_number(field: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidField(field, "is out of range", limit=f"{low:g} to {high:g}", actual=f"{value:g}")
