"""Which optional packages are installed, told from this distribution's own metadata."""

from __future__ import annotations

import re
from importlib import metadata

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def missing(extra: str) -> list[str]:
    """Names of the packages of an extra that are not installed."""
    try:
        requirements = metadata.requires("upscaled") or []
    except metadata.PackageNotFoundError:
        return []  # run from a source tree: nothing is known, so nothing is claimed
    names = []
    for requirement in requirements:
        name, marker = _NAME.match(requirement), _EXTRA.search(requirement)
        if name and marker and marker[1] == extra and not _installed(name[0]):
            names.append(name[0])
    return names


def install_hint(extra: str) -> str:
    return f"pip install 'upscaled[{extra}]'"


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
