"""Values of labels that callers or operators choose: a bounded number of them, since every value is a series
that is kept for as long as the server runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable

OTHER = "other"
"""What stands for all names beyond the bound."""


class BoundedNames:
    """The first `most` names stand for themselves, all later ones are `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = frozenset[str]()
        self._first = set[str]()
        self._lock = threading.Lock()

    def reserve(self, names: Iterable[str]) -> None:
        """Names that stand for themselves whatever comes before them, beside the `most` others."""
        with self._lock:
            self._reserved |= frozenset(names)
            self._first -= self._reserved

    def __call__(self, name: str) -> str:
        if name in self._reserved or name in self._first:
            return name
        with self._lock:
            if len(self._first) >= self._most:
                return OTHER
            self._first.add(name)
        return name
