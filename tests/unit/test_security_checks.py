"""The checks of `make security` find what they are there for."""

from __future__ import annotations

import base64
import hashlib
from email.message import Message
from importlib import metadata

import pytest
from scripts import check_licences, check_secrets

# Put together here, so that the check does not find them in this file.
RANDOM = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
SECRETS = [
    "-----BEGIN PRIVATE" + " KEY-----\n" + RANDOM * 2,
    "AK" + "IAIOSFODNN7EXAMPLE",
    "gh" + "p_" + "a1B2" * 9,
    "whs" + "ec_" + RANDOM,
    "https://somebody:" + "correcthorsebattery@example.com",
    'api_key = "' + RANDOM + '"',
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_found_with_its_line(text: str) -> None:
    found = check_secrets.secrets_in(b"\n\n" + text.encode())
    assert [line for line, _ in found] == [3]


@pytest.mark.parametrize(
    "text", ['token = "xxxxxxxxxxxxxxxxxxxxxxxxxxxx"', "https://HOST:PORT/", "password = key"]
)
def test_what_only_looks_alike_is_not(text: str) -> None:
    assert check_secrets.secrets_in(text.encode()) == []


class _Package(metadata.Distribution):
    def __init__(self, **fields: str) -> None:
        self._about = Message()
        for name, value in fields.items():
            self._about[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        return self._about

    def read_text(self, filename: str) -> None:  # noqa: ARG002 - the base class's
        return None

    def locate_file(self, path: object) -> None:  # type: ignore[override]  # noqa: ARG002
        return None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "BSD-3-Clause AND Zlib"}, {"BSD-3-Clause", "Zlib"}),
        ({"License_Expression": "GPL-3.0-only OR MIT"}, {"MIT"}),
        ({"License_Expression": "GPL-3.0-only OR AGPL-3.0-only"}, {"GPL-3.0-only"}),
        ({"Classifier": "License :: OSI Approved :: Apache Software License"}, {"Apache-2.0"}),
        ({"License": "GPL"}, {"GPL"}),
        ({}, set()),
    ],
)
def test_a_licence_is_read_wherever_a_package_gives_it(fields: dict[str, str], expected: set[str]) -> None:
    assert check_licences.licences(_Package(**fields)) == expected


def test_everything_that_is_installed_with_the_server_is_looked_at() -> None:
    found = check_licences.installed("upscaled", ("server",))
    assert {"grpcio", "pillow", "anyio", "numpy"} <= set(found)
    assert "pytest" not in found
