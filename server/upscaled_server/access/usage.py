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

    def add(self, charged: Charged) -> None:
        self._plus(charged.model, 1, charged.pixels, charged.credits)

    def replace(self, before: Charged, after: Charged) -> None:
        """A charge that was added has been raised."""
        self._plus(before.model, -1, -before.pixels, -before.credits)
        self.add(after)

    def add_all(self, uses: Iterable[ModelUse]) -> None:
        for use in uses:
            self._plus(use.model, use.requests, use.pixels, use.credits)

    def by_model(self) -> list[ModelUse]:
        """In the order of their names."""
        return [self._models[name] for name in sorted(self._models)]

    def _plus(self, model: str, requests: int, pixels: int, charged: Decimal) -> None:
        self._models[model] = self._models.get(model, ModelUse(model)).plus(requests, pixels, charged)
        self.credits += charged
