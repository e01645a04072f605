"""What every test shares: where optional real data is, and nothing that starts by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import hypothesis
import pytest

REPO = Path(__file__).resolve().parents[1]

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("upscaled", deadline=None)
hypothesis.settings.load_profile("upscaled")

# Commands are interrupted in tests; started in the background of a script, all of them would ignore that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, models and the corpus of hostile files, which a plain clone does not
    have."""
    folder = REPO.parent / "shared"
    if not (folder / "images").is_dir():
        pytest.skip(
            "needs ../shared, the maintainers' folder of real images, which a plain clone does not have"
        )
    return folder


@pytest.fixture(scope="session")
def shared_images(shared: Path) -> Path:
    return shared / "images"


@pytest.fixture(scope="session")
def shared_models(shared: Path) -> Path:
    return shared / "models"
