"""What an operator opens besides the public internet: hosts and networks inside."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from upscaled_server.intake.fetch.addresses import Address

FORM = "HOST, *.DOMAIN, ADDRESS or NETWORK/BITS, each with :PORT if one port only is meant"
_ENTRY = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:/\d{1,3})?)\]|(?P<plain>[A-Za-z0-9.*_/-]+))(?::(?P<port>\d{1,5}))?"
)
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Opening:
    """Either a `name` (`*.` before it: everything below) or a `network`; `port` None: those that everybody
    may use."""

    port: int | None
    name: str = ""
    network: Network | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        found = _ENTRY.fullmatch(text)
        if found is None or (found["port"] and not 1 <= int(found["port"]) <= 65535):
            raise ValueError(f"{text[:80]!r} is not {FORM}")
        port = int(found["port"]) if found["port"] else None
        inside = found["bracketed"] or found["plain"]
        try:
            return cls(port, network=ipaddress.ip_network(inside))
        except ValueError:
            name = inside.lower().removesuffix(".")
            # A name that ends in a number would be read as an address, and so would never match.
            if found["bracketed"] or not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
                raise ValueError(f"{text[:80]!r} is not {FORM}") from None
            return cls(port, name=name)

    def holds_name(self, host: str) -> bool:
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return bool(self.name) and host == self.name

    def holds_address(self, address: Address) -> bool:
        return self.network is not None and address in self.network


class Openings:
    """All entries. One without a port opens the ports that public hosts are asked at, `ports`."""

    def __init__(self, entries: Iterable[Opening], ports: frozenset[int]) -> None:
        self._entries = tuple(entries)
        self.ports = ports

    def host(self, host: str, port: int) -> bool:
        """Whether this name may be dialled wherever it leads."""
        return any(each.holds_name(host) and self._at(each, port) for each in self._entries)

    def address(self, address: Address, port: int) -> bool:
        return any(each.holds_address(address) and self._at(each, port) for each in self._entries)

    def port(self, port: int) -> bool:
        """Whether any host may be asked at this port; which one, the addresses decide."""
        return port in self.ports or any(each.port == port for each in self._entries)

    def _at(self, entry: Opening, port: int) -> bool:
        return port in self.ports if entry.port is None else port == entry.port
