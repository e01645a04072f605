"""The command, as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from fake_server import FakeServer


def run(
    *arguments: str | os.PathLike[str], server: FakeServer | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "upscaled", *map(os.fspath, arguments)]
    given = {"UPSCALED_SERVER": server.target} if server else {}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **given, **environment},
    )
