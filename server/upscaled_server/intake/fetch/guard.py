"""Every address is checked where it is dialled, so that neither a redirect nor a name server's second answer
leads past the check."""

from __future__ import annotations

import logging
import socket

from upscaled_server.errors import FetchFailed, UrlRefused
from upscaled_server.intake.fetch.addresses import Address, is_public, parse_address
from upscaled_server.intake.fetch.allowed import Openings
from upscaled_server.intake.fetch.resolver import Resolver
from upscaled_server.intake.fetch.urls import Target, literal_refused, parse

_LOG = logging.getLogger(__name__)


class Guard:
    """`field` is the request field that refusals name."""

    def __init__(
        self, resolver: Resolver, openings: Openings, *, field: str, schemes: frozenset[str]
    ) -> None:
        self._resolver = resolver
        self._openings = openings
        self._schemes = schemes
        self.field = field

    def check(self, url: str) -> Target:
        """What can be said of a URL without asking anybody. Raises `UrlRefused`."""
        target = parse(url, field=self.field, schemes=self._schemes)
        if not self._openings.port(target.port):
            ports = ", ".join(map(str, sorted(self._openings.ports)))
            raise UrlRefused(self.field, "has a port that is not allowed", limit=ports, actual=target.port)
        if target.address is not None and not self._may(target.address, target.port, literal=True):
            raise self._not_public(target.host)
        return target

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Where a host may be dialled: everything it leads to, if all of it may be.

        Raises `UrlRefused` if any may not be, `FetchFailed` if the name servers do not answer.
        """
        try:
            literal = parse_address(host)
        except ValueError:
            pass
        else:
            if not self._may(literal, port, literal=True):
                raise self._not_public(host)
            return [literal]
        found = await self._resolve(host, port)
        if self._openings.host(host, port):
            return found
        if not found or not all(self._may(address, port) for address in found):
            # Not which addresses: strangers must not learn what names there are inside.
            _LOG.info("refused to dial %s, which leads to addresses that are not public", host)
            raise self._not_public(host)
        return found

    async def check_before_proxy(self, target: Target) -> None:
        """What can be said of a host that a proxy will dial, by whatever its own name servers answer: refused
        is what leads inside from here. A name that is unknown here is left to the proxy, at the ports of
        everybody. Raises `UrlRefused`."""
        if target.address is not None or self._openings.host(target.host, target.port):
            return
        try:
            found = await self._resolver.resolve(target.host, target.port)
            inside = not all(self._may(parse_address(each), target.port) for each in found)
        except OSError:
            inside = target.port not in self._openings.ports
        except ValueError:  # an address with a zone
            inside = True
        if inside:
            raise self._not_public(target.host)

    def _may(self, address: Address, port: int, *, literal: bool = False) -> bool:
        if self._openings.address(address, port):
            return True
        if port not in self._openings.ports:
            return False
        return not literal_refused(address) if literal else is_public(address)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            return [parse_address(each) for each in await self._resolver.resolve(host, port)]
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise FetchFailed(f"{self.field}: the name servers of {host} do not answer") from None
            raise self._not_public(host) from None
        except (OSError, UnicodeError):
            raise FetchFailed(f"{self.field}: {host} cannot be resolved") from None
        except ValueError:  # an address with a zone
            raise self._not_public(host) from None

    def _not_public(self, host: str) -> UrlRefused:
        return UrlRefused(
            self.field, "does not lead to a public address", limit="public addresses", actual=host
        )
