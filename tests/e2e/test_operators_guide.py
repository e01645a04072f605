"""What `deploy/README.md` tells operators to type works, in that order, against real servers; and what it
says of settings and log lines is so."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import running_server
from tests.e2e.keyed import command, picture
from tests.ports import free_ports
from upscaled_server.app import SETTINGS
from upscaled_server.state.database import SCHEMA_VERSION

GUIDE = (REPO / "deploy" / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
_FAILURES = GUIDE.partition("## When something is wrong")[2].partition("\n## ")[0]
# The first cell of a start that fails, the second of what is seen while it runs.
_START_ROWS = re.findall(r"^\| `([^`|]+)` \| [^|]+ \|$", _FAILURES, re.MULTILINE)
_RUNNING_ROWS = re.findall(r"^\| [^|]+ \| `([^`|]+)` \| [^|]* \| [^|]+ \|$", _FAILURES, re.MULTILINE)


_MISSING = [name for name in ("curl", "openssl") if shutil.which(name) is None]


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder that stands for the machine's root; its name is short, as names of sockets are."""
    with tempfile.TemporaryDirectory(prefix="guide-", dir="/tmp") as folder:
        root = Path(folder)
        for name in ("bin", "var/lib", "var/log", "backups", "work"):
            (root / name).mkdir(parents=True)
        program = root / "bin" / "upscaled"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upscaled "$@"\n')
        program.chmod(0o755)
        (root / "work" / "photo.jpg").write_bytes(picture(40, 30))
        yield root


def _on(machine: Path, script: str) -> str:
    """The script with this machine's folders and free ports."""
    for folder in ("/var/lib/", "/var/log/", "/backups/"):
        script = script.replace(folder, f"{machine}{folder}")
    known = ("50051", "50052", "9464", "9465")
    for port, free in zip(known, free_ports(len(known)), strict=True):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
    return script


@pytest.mark.timeout(300)
@pytest.mark.skipif(_MISSING != [], reason=f"not installed: {', '.join(_MISSING)}")
def test_every_command_of_the_guide_runs_in_its_order(machine: Path) -> None:
    assert len(BLOCKS) >= 9
    script = _on(machine, "\n".join(BLOCKS))
    ending = "trap 'kill -TERM $(jobs -p) 2>/dev/null; wait' EXIT\n"
    done = subprocess.run(
        ["bash", "-c", f"set -eu\n{ending}{script}"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=machine / "work",
        env={**os.environ, "PATH": f"{machine}/bin:{os.environ['PATH']}"},
    )
    log = (machine / "var/log/upscaled.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert "no such file" not in done.stderr.lower()
    for name in ("photo_x2.png", "drill.png"):
        assert Image.open(machine / "work" / name).size == (80, 60)
    assert (machine / "backups/before-upgrade/state.db").is_file()
    # The last command has deleted the caller with its job.
    assert not [path for path in (machine / "var/lib/upscaled/blobs").rglob("*") if path.is_file()]
    assert [path for path in (machine / "var/lib/upscaled-newer/blobs").rglob("*") if path.is_file()]
    assert "stopped" in log


def test_an_older_version_refuses_a_newer_database_and_the_backup_is_the_way_back(machine: Path) -> None:
    folder, backup = machine / "var/lib/upscaled", machine / "backups/before-upgrade"
    environ = {"UPSCALED_DATA_DIR": str(folder)}
    key = command("keys", "create", "anna", **environ).stdout.strip()
    assert command("backup", str(backup), **environ).returncode == 0
    database = folder / "state.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    refused = command("serve", "--listen", "127.0.0.1:0", **environ)
    assert refused.returncode == 1
    assert "was written by a newer version" in refused.stderr
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before
    unsaved = command("backup", str(machine / "backups/wrong"), **environ)
    assert unsaved.returncode == 1
    assert "use the version that wrote it" in unsaved.stderr
    folder.rename(machine / "var/lib/upscaled-newer")
    assert command("restore", str(backup), **environ).returncode == 0
    with running_server(**environ) as server:
        arguments = ("models", "list", "--server", server.address)
        assert command(*arguments, UPSCALED_API_KEY=key).returncode == 0
        assert command(*arguments, UPSCALED_API_KEY="upk_wrong").returncode == 1


def test_missing_files_are_named_and_end_with_status_1(machine: Path) -> None:
    environ = {"UPSCALED_DATA_DIR": str(machine / "var/lib/upscaled")}
    with running_server(**environ) as server:
        made = command(
            "jobs", "submit", str(machine / "work/photo.jpg"), "--wait", "--scale", "2",
            "--model", "real-esrgan-animevideo-v3", "--server", server.address,
        )  # fmt: skip
    job = made.stdout.strip()
    (output,) = (machine / "var/lib/upscaled/blobs/outputs" / job).iterdir()
    output.unlink()
    for arguments in (("backup",), ("restore", "--data-dir", str(machine / "new"))):
        done = command(*arguments, str(machine / "backups/b"), **environ)
        assert done.returncode == 1
        assert job in done.stderr
        assert "as of 2" in done.stdout


def test_every_setting_that_the_guide_names_is_one() -> None:
    known = {f"UPSCALED_{name.upper()}" for kind in SETTINGS for name in kind.model_fields}
    named = set(re.findall(r"UPSCALED_[A-Z_]+", GUIDE))
    assert len(named) > 15
    assert named <= known | {"UPSCALED_API_KEY"}


@cache
def _texts_of_the_server() -> str:
    """Every string of the server's source but docstrings, with %s for what is filled in."""
    texts = []
    for path in (REPO / "server").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(each.value) for each in nodes if isinstance(each, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [each.value if isinstance(each, ast.Constant) else "%s" for each in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and id(node) not in docstrings:
                texts.append(str(node.value))
    return "\n".join(texts)


@pytest.mark.parametrize("text", [*_START_ROWS, *_RUNNING_ROWS])
def test_every_log_line_that_the_guide_names_is_written(text: str) -> None:
    filled_in = re.sub(r"\b(SIG[A-Z]+|[A-Z]+_[A-Z_]+)\b", "%s", text)
    assert filled_in in _texts_of_the_server()


def test_the_guide_has_a_row_for_each_of_the_known_failures() -> None:
    assert len(_START_ROWS) >= 7
    assert len(_RUNNING_ROWS) >= 12


def test_every_metric_that_the_guide_names_is_on_their_page() -> None:
    page = REPO / "docs" / "metrics.md"
    named = set(re.findall(r"upscaled_[a-z_]+", GUIDE)) - {"upscaled_server"}
    assert len(named) > 10
    if page.is_file():
        assert not [name for name in named if name not in page.read_text()]
