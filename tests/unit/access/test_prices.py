"""Prices are read from one line or from the file of settings, and what is not a price stops the start."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from upscaled_server.access.prices import Price, PriceSettings
from upscaled_server.settings import Settings, SettingsError


def _settings(text: str) -> PriceSettings:
    return Settings([PriceSettings], {"UPSCALED_PRICES": text})[PriceSettings]


def test_a_line_names_prices_by_model() -> None:
    prices = _settings("default=0.5+0.25, real-esrgan-x4-plus = 1 + 0.5,")
    assert prices.of("real-esrgan-x4-plus") == Price(Decimal(1), Decimal("0.5"))
    assert prices.of("another") == Price(Decimal("0.5"), Decimal("0.25"))


def test_aliases_name_models_too() -> None:
    prices = _settings("default=1, RealESRGAN_x4plus=2, my-own-model=3")
    assert prices.of("real-esrgan-x4-plus").base == 2
    assert prices.of("my-own-model").base == 3


def test_the_file_of_settings_may_hold_them_too(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("prices:\n  default: 2\n  real-esrgan-x4-plus: 0.1+0.05\n")
    prices = Settings([PriceSettings], {"UPSCALED_CONFIG": str(path)})[PriceSettings]
    assert prices.of("another").of(10**9) == 2
    assert prices.of("real-esrgan-x4-plus").of(2_000_000) == Decimal("0.2")


def test_there_are_none_unless_they_are_given() -> None:
    assert Settings([PriceSettings], {})[PriceSettings].prices == {}


@pytest.mark.parametrize(
    "text",
    [
        "default",
        "default=",
        "default=-1",
        "default=1+",
        "default=1e3",
        "default=0.00001",
        "default=nan",
        "default=1000001",
        "default=1,default=2",
        "default=1,RealESRGAN_x4plus=2,real-esrgan-x4-plus=2",
        "real-esrgan-x4-plus=1",
    ],
)
def test_what_is_no_list_of_prices_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^UPSCALED_PRICES: "):
        _settings(text)


@pytest.mark.parametrize(
    ("pixels", "price"),
    [(1, "1"), (50_000, "1.0005"), (149_999, "1.0015"), (1_000_000, "1.01"), (400_000_000, "5")],
)
def test_a_price_is_rounded_to_four_decimals(pixels: int, price: str) -> None:
    assert Price(Decimal(1), Decimal("0.01")).of(pixels) == Decimal(price)
