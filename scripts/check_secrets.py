"""Whether a secret lies in the repository: `check_secrets.py [FILE …]`, by default every file that git knows.

Looks for the forms that keys of well-known services have, for private keys, and for long random text given to
a name such as `password`. What is there on purpose is listed, with the reason.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

KNOWN = {
    ("tests/integration/client/certificates/server.key", "a private key"): "only tests trust its certificate",
    ("tests/unit/intake/fetch/test_fetch_urls.py", "a password in a URL"): "must be in no message",
}
_FORMS = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"),
    "a key of AWS": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "a token of Slack": re.compile(rb"\bxox[abeprs]-[A-Za-z0-9-]{20,}"),
    "a key of Google": re.compile(rb"\bAIza[A-Za-z0-9_-]{35}\b"),
    "a token of a package index": re.compile(rb"\bpypi-[A-Za-z0-9_-]{60,}"),
    "a key of Stripe": re.compile(rb"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    "a secret of callbacks": re.compile(rb"\bwhsec_[A-Za-z0-9+/]{32,}"),
    "a signed token": re.compile(rb"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}"),
    "a password in a URL": re.compile(rb"\b[a-z]{2,8}://[^\s:/@\"'<>{}$]{2,}:[^\s/@\"'<>{}$]{12,}@[a-z0-9]"),
}
_GIVEN = re.compile(
    rb"(?i)\b(?:password|passwd|secret|token|api_?key|access_?key)\b[\"']?\s*[:=]\s*[\"']([A-Za-z0-9+/_=-]{20,})[\"']"
)
_LEAST_BITS = 3.7
_LARGEST_BYTES = 5 << 20


def secrets_in(data: bytes) -> list[tuple[int, str]]:
    """Line and kind of everything that looks like a secret."""
    found = [(match.start(), kind) for kind, form in _FORMS.items() for match in form.finditer(data)]
    found += [
        (match.start(), "random text given to a name of secrets")
        for match in _GIVEN.finditer(data)
        if _bits(match[1]) >= _LEAST_BITS
    ]
    return sorted((data.count(b"\n", 0, at) + 1, kind) for at, kind in found)


def _bits(text: bytes) -> float:
    """Shannon's entropy of a character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def main() -> int:
    names = sys.argv[1:]
    if not names:
        listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True)
        names = [name for name in listed.stdout.decode().split("\0") if name]
    paths = [path for path in map(Path, names) if path.is_file() and path.stat().st_size <= _LARGEST_BYTES]
    wrong = 0
    for path in paths:
        for line, kind in secrets_in(path.read_bytes()):
            if (str(path), kind) in KNOWN:
                continue
            wrong += 1
            print(f"{path}:{line}: {kind}")
    print(f"secrets: {len(paths)} files, {wrong} found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
