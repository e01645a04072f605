"""What work costs: a base and an amount per megapixel of output, by model. Credits have four decimals."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Self

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import NotFound

DEFAULT = "default"
"""Names the price of the models that are not named."""

NOTHING = Decimal(0)
_SMALLEST = Decimal("0.0001")
_MEGAPIXEL = 1_000_000
_LARGEST = Decimal(1_000_000)

_PRICE = re.compile(r"(\d{1,7}(?:\.\d{1,4})?)(?:\+(\d{1,7}(?:\.\d{1,4})?))?")
_FORM = "BASE or BASE+PER_MEGAPIXEL, such as 0.5+0.25, each 0 to 1000000 with at most four decimals"


@dataclass(frozen=True, slots=True)
class Price:
    """In credits."""

    base: Decimal
    per_megapixel: Decimal = NOTHING

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is not a price."""
        found = _PRICE.fullmatch(text)
        parts = [Decimal(part) for part in found.groups() if part is not None] if found else []
        if not parts or max(parts) > _LARGEST:
            raise ValueError(f"{text[:40]!r} is not a price: {_FORM}")
        return cls(*parts)

    def of(self, output_pixels: int) -> Decimal:
        """The whole price of an output of this size."""
        exact = self.base + self.per_megapixel * output_pixels / _MEGAPIXEL
        return exact.quantize(_SMALLEST, ROUND_HALF_UP)


def share_of(amount: Decimal, part: int, whole: int) -> Decimal:
    """What `part` of the `whole` costs; what is left of a ten-thousandth is the caller's."""
    return (amount * part / whole).quantize(_SMALLEST, ROUND_DOWN)


def credits_of(number: float) -> Decimal:
    """A limit as it is configured, in credits."""
    return Decimal(str(number)).quantize(_SMALLEST, ROUND_HALF_UP)


def _catalogue_name(name: str) -> str:
    """Of an alias too; of a model that is not built in, the name as it is."""
    with suppress(NotFound):
        return name if name == DEFAULT else Catalogue().resolve(name).name
    return name


class PriceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    prices: Annotated[dict[str, Price], NoDecode] = Field(
        default_factory=dict,
        description="What work costs in credits, by model: NAME=BASE+PER_MEGAPIXEL of output, separated by "
        "commas, such as `default=0.5+0.25, real-esrgan-x4-plus=1+0.5`; `default` is for the models that are "
        "not named. Without it credits are not kept.",
    )

    @field_validator("prices", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> dict[str, Price]:
        """From one line of text, or from `NAME: PRICE` in the file of settings."""
        if isinstance(value, str):
            pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
            named = [(name.strip(), price.replace(" ", "")) for name, _, price in pairs]
        elif isinstance(value, dict):
            named = [(str(name), str(price).replace(" ", "")) for name, price in value.items()]
        else:
            raise ValueError("UPSCALED_PRICES must be NAME=PRICE, separated by commas")
        prices = {_catalogue_name(name): Price.parse(price) for name, price in named}
        if len(prices) < len(named):
            raise ValueError("UPSCALED_PRICES names a model twice")
        if prices and DEFAULT not in prices:
            raise ValueError(f"UPSCALED_PRICES needs a price named {DEFAULT}, for the models not named")
        return prices

    def of(self, model: str) -> Price:
        """By catalogue name. Only where there are prices."""
        return self.prices.get(model, self.prices[DEFAULT])
