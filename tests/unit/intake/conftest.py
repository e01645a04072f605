from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stored_tools import Kept, keeping
from tests.both_stores import OpenStore


@pytest.fixture
async def kept(tmp_path: Path, open_store: OpenStore) -> AsyncIterator[Kept]:
    async with keeping(tmp_path, open_store=open_store) as parts:
        yield parts
