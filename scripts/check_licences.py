"""Whether everything that an installation with all extras brings along may be used: `check_licences.py`.

What a package says of its licence (PEP 639, classifiers, or a line of text) is brought to SPDX names and
compared with a list. Packages that only tests and tools need are not distributed, and not looked at.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

from packaging.requirements import Requirement

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",  # of single files, used as they are
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}
EXTRAS = ("cli", "images", "server", "heif", "jwt", "torch", "custom-models", "otel", "cluster")
# How older packages write them.
_SPDX = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}


def installed(name: str, extras: tuple[str, ...]) -> dict[str, metadata.Distribution]:
    """The package and everything it needs, by normalised name; what is not installed here is left out."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        key = _normalised(name)
        try:
            distribution = found.setdefault(key, metadata.distribution(name))
        except metadata.PackageNotFoundError:
            continue
        for line in distribution.requires or ():
            requirement = Requirement(line)
            for extra in ("", *extras):
                marker = requirement.marker
                wanted = marker is None or marker.evaluate({"extra": extra})
                if wanted and (key, f"{line} {extra}") not in seen:
                    seen.add((key, f"{line} {extra}"))
                    waiting.append((requirement.name, tuple(requirement.extras)))
    return found


def licences(distribution: metadata.Distribution) -> set[str]:
    """SPDX names, all of which apply; of alternatives the allowed ones. Empty if nothing is said."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return _all_of(expression)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or ()
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    said = classifiers or [
        line for line in [(about.get("License") or "").strip()] if line and "\n" not in line
    ]
    return {name for each in said for name in _all_of(_SPDX.get(each.lower(), each))}


def _all_of(expression: str) -> set[str]:
    return {_chosen(part) for part in re.split(r"\s+AND\s+", expression)}


def _chosen(part: str) -> str:
    options = [each.strip() for each in re.split(r"\s+OR\s+", part.strip("() "))]
    return next((each for each in options if each in ALLOWED), options[0])


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    found = installed("upscaled", EXTRAS)
    wrong = 0
    for name, distribution in sorted(found.items()):
        said = licences(distribution)
        if not said or not said <= ALLOWED:
            wrong += 1
            print(
                f"{name} {distribution.version}: {', '.join(sorted(said - ALLOWED)) or 'no licence is given'}"
            )
    print(f"licences: {len(found)} packages, {wrong} not allowed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
