from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stored_tools import Kept, keeping


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with keeping(tmp_path) as parts:
        yield parts
