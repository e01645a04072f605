"""What a lock file pins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.conftest import REPO

LOCKS = REPO / "deploy" / "docker" / "locks"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]

    def holds(self, python: str) -> bool:
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": "linux",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
        }
        return self.marker is None or self.marker.evaluate(environment)


def pins_of(name: str) -> list[Pin]:
    text = (LOCKS / f"{name}.txt").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    pins = []
    for line in filter(str.strip, lines):
        requirement = Requirement(line.partition("--hash")[0].strip())
        (only,) = requirement.specifier
        assert only.operator == "==", line
        hashes = frozenset(_HASH.findall(line))
        pins.append(Pin(canonicalize_name(requirement.name), only.version, requirement.marker, hashes))
    return pins
