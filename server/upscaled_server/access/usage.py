"""What a caller has used, summed up by model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from upscaled_server.access.ledger import Charged
from upscaled_server.access.prices import NOTHING


@dataclass(frozen=True, slots=True)
class ModelUse:
    """Pieces of work, output pixels that were handed over, and credits charged."""

    model: str
    requests: int = 0
    pixels: int = 0
    credits: Decimal = NOTHING

    def plus(self, requests: int, pixels: int, charged: Decimal) -> ModelUse:
        return ModelUse(self.model, self.requests + requests, self.pixels + pixels, self.credits + charged)


class Sums:
    """Adds up charges."""

    def __init__(self) -> None:
        self._models: dict[str, ModelUse] = {}
        self.credits = NOTHING

    def count(self, entry: str, charged: Charged, before: Charged | None = None) -> None:  # noqa: ARG002
        """Of one entry; `before`: what was counted of it, if it has been raised."""
        if before is not None:
            self._plus(before.model, -1, -before.pixels, -before.credits)
        self.add(charged)

    def charged(self, entry: str) -> Decimal:  # noqa: ARG002 - others remember
        """What was counted of an entry, where entries are remembered; else 0."""
        return NOTHING

    def add(self, charged: Charged) -> None:
        self._plus(charged.model, 1, charged.pixels, charged.credits)

    def add_all(self, uses: Iterable[ModelUse]) -> None:
        for use in uses:
            self._plus(use.model, use.requests, use.pixels, use.credits)

    def by_model(self) -> list[ModelUse]:
        """In the order of their names."""
        return [self._models[name] for name in sorted(self._models)]

    def _plus(self, model: str, requests: int, pixels: int, charged: Decimal) -> None:
        self._models[model] = self._models.get(model, ModelUse(model)).plus(requests, pixels, charged)
        self.credits += charged


class EntrySums(Sums):
    """Remembers what it counted, so that each entry may come from several sides, again, and in any order:
    an entry is never lowered, so what is larger came later. About 0.4 kB an entry."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Charged] = {}

    def count(self, entry: str, charged: Charged, before: Charged | None = None) -> None:  # noqa: ARG002
        known = self._entries.get(entry)
        if known is None or charged.credits > known.credits:
            self._entries[entry] = charged
            super().count(entry, charged, known)

    def charged(self, entry: str) -> Decimal:
        known = self._entries.get(entry)
        return NOTHING if known is None else known.credits
