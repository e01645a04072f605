"""For a server to compare with: found first by the interpreter as it starts, this makes every instrument do
nothing."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _itself(instrument: Any, *_: Any, **__: Any) -> Any:
    return instrument


for _kind, _methods in ((Counter, ("inc",)), (Gauge, ("inc", "dec", "set")), (Histogram, ("observe",))):
    _kind.labels = _itself  # type: ignore[method-assign]
    for _method in _methods:
        setattr(_kind, _method, _nothing)
