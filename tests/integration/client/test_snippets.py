"""What the documents tell people to type does what they say."""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
import hmac
import inspect
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from tests.conftest import REPO

from upscaled import Client

_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)
# Where the documents' servers are.
_ADDRESS = re.compile(r"127\.0\.0\.1:50051|dns:///upscaled:50051")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the images that the documents speak of."""
    for name in ("photo.jpg", "poster.jpg", "a.jpg", "b.jpg", "a.png", "b.png"):
        (tmp_path / name).write_bytes(b"an image")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "c.jpg").write_bytes(b"an image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", ["docs/jobs.md", "client/README.md"])
def test_every_python_snippet_runs(document: str, server: FakeServer, folder: Path) -> None:
    server.tiles = 2
    with Client(server.target) as client:
        known: dict[str, Any] = {"client": client}
        snippets = _PYTHON.findall((REPO / document).read_text())
        assert len(snippets) > 4
        for snippet in snippets:
            source = _ADDRESS.sub(server.target, snippet)
            code = compile(source, f"<{document}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(eval(code, known))
            else:
                exec(code, known)
            known["client"] = client  # a snippet with a client of its own closed it
    assert (folder / "photo_x2.png").read_bytes() == server.file


def test_a_receiver_made_as_the_document_says_tells_friend_from_foe(server: FakeServer) -> None:
    (snippet,) = [
        text for text in _PYTHON.findall((REPO / "docs/jobs.md").read_text()) if "def receive" in text
    ]
    with Client(server.target) as client:
        known: dict[str, Any] = {"client": client}
        exec(snippet, known)
        job = client.jobs.create(b"image", labels={"order": "4711"}).to_dict()
    body, at = json.dumps(job).encode(), str(int(time.time()))
    digest = hmac.new(b"new", b".".join([b"msg_1", at.encode(), body]), hashlib.sha256).digest()
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": at,
        "Webhook-Signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    assert known["receive"](body, headers) == 204
    assert known["receive"](body + b" ", headers) == 401


@pytest.mark.parametrize("document", ["docs/jobs.md", "client/README.md"])
def test_every_command_runs(document: str, server: FakeServer, folder: Path) -> None:
    blocks = [block for block in _SHELL.findall((REPO / document).read_text()) if "upscaled " in block]
    script = "\n".join(block for block in blocks if "pip install" not in block)
    assert script.count("upscaled ") > 5
    call = f'upscaled() {{ "{sys.executable}" -m upscaled "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", f"set -eu\n{call}{script}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "UPSCALED_SERVER": server.target, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("photo_x*.png"))
