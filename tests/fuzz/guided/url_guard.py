"""URLs of strangers, and the addresses that names lead to.

What is let through is read again by two other readers of URLs, which must see the same host and port, and by
the C library, which must not take a name for an address. No address may be dialled that `ipaddress` calls
anything but global, or that carries another one where translators look for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import httpx

from tests.fuzz import seeds as all_seeds
from upscaled_server.errors import FetchFailed, UrlRefused
from upscaled_server.intake.fetch.addresses import Address
from upscaled_server.intake.fetch.allowed import Openings
from upscaled_server.intake.fetch.guard import Guard
from upscaled_server.intake.fetch.urls import shown

_AS_URL, _AS_ADDRESS, _AS_ANSWER = range(3)


class _Answer:
    """A name server that says what the input says."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def resolve(self, _host: str, _port: int) -> Sequence[str]:
        return self.addresses

    def close(self) -> None:
        pass


_ANSWER = _Answer()
_GUARD = Guard(
    _ANSWER,
    Openings((), frozenset({80, 443})),
    field="source.url",
    schemes=frozenset({"http", "https"}),
)
_LOOP = asyncio.new_event_loop()


def seeds() -> Iterator[bytes]:
    for url in all_seeds.urls():
        yield bytes((_AS_URL,)) + url.encode()
    for text in (
        "127.0.0.1",
        "8.8.8.8",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2606:4700::1",
        "2002:7f00:1::",
    ):
        yield bytes((_AS_ADDRESS,)) + ipaddress.ip_address(text).packed
        yield bytes((_AS_ANSWER,)) + text.encode()


def one_input(data: bytes) -> None:
    kind, rest = (data[0] % 3, data[1:]) if data else (_AS_URL, b"")
    if kind == _AS_URL:
        _check_url(rest.decode("utf-8", "ignore"))
    elif kind == _AS_ADDRESS and len(rest) in (4, 16):
        _check_answer([str(ipaddress.ip_address(rest))])
    elif kind == _AS_ANSWER:
        _check_answer(rest.decode("utf-8", "ignore").split("\n"))


def _check_url(text: str) -> None:
    for said in (shown(text), _refusal(text)):
        assert all(part.isprintable() for part in said), said
    try:
        target = _GUARD.check(text)
    except UrlRefused:
        return
    if target.address is not None:
        _must_be_public(target.address)
    else:
        try:
            socket.inet_aton(target.host)
        except OSError:
            pass
        else:
            raise AssertionError(f"{target.host!r} is an address for the C library")
    for host, port in (_by_urllib(text), _by_httpx(str(target.url)), _by_urllib(str(target.url))):
        assert (host.lower().strip("[]").removesuffix("."), port) == (target.host, target.port), text
    assert target.url.userinfo == b""


def _refusal(text: str) -> str:
    try:
        _GUARD.check(text)
    except UrlRefused as error:
        return error.message
    return ""


def _by_urllib(text: str) -> tuple[str, int]:
    parts = urlsplit(text)
    host = parts.hostname or ""
    if ":" in host:
        host = str(ipaddress.IPv6Address(host))
    return host, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _by_httpx(text: str) -> tuple[str, int]:
    url = httpx.URL(text)
    return url.host, url.port or {"http": 80, "https": 443}[url.scheme]


def _check_answer(addresses: list[str]) -> None:
    _ANSWER.addresses = addresses
    try:
        found = _LOOP.run_until_complete(_GUARD.addresses("name.test", 443))
    except (UrlRefused, FetchFailed):
        return
    for address in found:
        _must_be_public(address)


def _must_be_public(address: Address) -> None:
    inside: list[Address | None] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        inside += [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in ipaddress.IPv6Network("64:ff9b::/96"):
            inside = [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    for each in inside:
        if each is not None:
            assert each.is_global, f"{address} leads to {each}"
            assert not each.is_multicast, f"{address} leads to {each}"
