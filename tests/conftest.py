"""What every test shares: where optional real data is, and nothing that starts by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


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
