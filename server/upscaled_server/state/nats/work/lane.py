"""Lanes: the items of one owner always lie in the same one, so that a burst of theirs delays those who share
it and nobody else."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

_CLASSES = {True: "urgent", False: "batch"}
_URGENT = {name: urgent for urgent, name in _CLASSES.items()}


class Lane(NamedTuple):
    urgent: bool
    number: int

    @property
    def name(self) -> str:
        """The end of its subject."""
        return f"{_CLASSES[self.urgent]}.{self.number}"

    @property
    def consumer(self) -> str:
        return f"{_CLASSES[self.urgent]}-{self.number}"

    @classmethod
    def named(cls, name: str) -> Lane | None:
        """None for what is no lane's name."""
        kind, _, number = name.partition(".")
        if kind not in _URGENT or not number.isdecimal():
            return None
        return cls(_URGENT[kind], int(number))


def lane_of(owner: str, urgent: bool, lanes: int) -> Lane:
    """The same at every replica, in every version."""
    digest = blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Lane(urgent, int.from_bytes(digest, "big") % lanes)
