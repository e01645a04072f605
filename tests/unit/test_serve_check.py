"""`upscaled serve --check` finds what a start would refuse, and starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _check(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upscaled", "serve", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "UPSCALED_DATA_DIR": str(folder / "data"), **environ},
        check=False,
    )


def test_settings_that_can_be_used_are_said_to_be(tmp_path: Path) -> None:
    done = _check(tmp_path, UPSCALED_MAX_CALLS="20")
    assert (done.returncode, done.stdout) == (0, "the settings can be used\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("UPSCALED_MAX_CALL", "20", 2),
        ("UPSCALED_MAX_CALLS", "many", 2),
        ("UPSCALED_TLS_CERT_FILE", "cert.pem", 2),
        ("UPSCALED_API_KEYS_FILE", "missing.yaml", 1),
        ("UPSCALED_SIGNING_KEYS", "short", 1),
        ("UPSCALED_CLUSTER_URL", "nats://nats:4222", 1),
        ("UPSCALED_CLUSTER_URL", "http://nats:4222", 2),
    ],
)
def test_what_a_start_would_refuse_is_named(tmp_path: Path, name: str, value: str, status: int) -> None:
    done = _check(tmp_path, **{name: value})
    assert (done.returncode, done.stdout) == (status, "")
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_certificates_are_opened(tmp_path: Path) -> None:
    files = {"UPSCALED_TLS_CERT_FILE": tmp_path / "tls.crt", "UPSCALED_TLS_KEY_FILE": tmp_path / "tls.key"}
    for path in files.values():
        path.write_text("not PEM\n")
    done = _check(tmp_path, **{name: str(path) for name, path in files.items()})
    assert done.returncode == 1
    assert "UPSCALED_TLS_CERT_FILE" in done.stderr
