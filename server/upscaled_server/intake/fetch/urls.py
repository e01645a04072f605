"""What a URL must look like before anything is done with it, and how it is shown to people.

A host is taken in one spelling only, so that nobody further down reads another one into it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import httpx

from upscaled_server.errors import UrlRefused
from upscaled_server.intake.fetch.addresses import Address, carries_ipv4, is_public, parse_address

MAX_URL_CHARACTERS = 4096
_SHOWN_CHARACTERS = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}

_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"//(?P<authority>[^/?#]*)")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# The form of a label that some resolvers take for a number, and so a host that ends in it for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked for, if its addresses may be dialled. `host` is in lower case, without brackets
    and the dot at the end; `address` is set where the host is one."""

    url: httpx.URL
    scheme: str
    host: str
    port: int
    address: Address | None
    shown: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def scheme_of(text: str) -> str:
    """In lower case; empty where there is none."""
    found = _SCHEME.match(text)
    return found["scheme"].lower() if found else ""


def shown(text: str) -> str:
    """A URL as it may stand in messages and logs: without user, query and fragment, printable, short. Where
    the host is no host, it may be a user or a part of a password."""
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    scheme, slashes, rest = bare.partition("//")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    if not slashes:  # what follows the scheme may be anything, an image in itself for one
        scheme = scheme.partition(":")[0].rpartition("@")[2]
    clean = _UNPRINTABLE.sub("�", scheme)
    if _HOST_PORT.fullmatch(host):
        clean += slashes + host + slash + _UNPRINTABLE.sub("�", path)
    elif rest or ":" in bare:
        clean += slashes + "…" if slashes else ":…"
    return clean if len(clean) <= _SHOWN_CHARACTERS else clean[: _SHOWN_CHARACTERS - 1] + "…"


def parse(text: str, *, field: str, schemes: frozenset[str]) -> Target:
    """Raises `UrlRefused`, which names `field`."""

    def refused(problem: str, limit: str) -> UrlRefused:
        return UrlRefused(field, problem, limit=limit, actual=shown(text))

    if not text or len(text) > MAX_URL_CHARACTERS:
        raise UrlRefused(
            field, "has an unusable length", limit=f"1 to {MAX_URL_CHARACTERS} characters", actual=len(text)
        )
    if _UNPRINTABLE.search(text) or "\\" in text:
        raise refused("holds a character that URLs do not have", "printable ASCII, others percent-encoded")
    scheme = scheme_of(text)
    if scheme not in schemes:
        raise refused("has a scheme that is not allowed", ", ".join(sorted(schemes)))
    found = _AUTHORITY.match(text, len(scheme) + 1)
    if found is None:
        raise refused("names no host", f"{scheme}://HOST/PATH")
    authority = found["authority"]
    if "@" in authority:
        raise refused("holds a user name or a password", f"{scheme}://HOST/PATH")
    parts = _HOST_PORT.fullmatch(authority)
    if parts is None:
        raise refused("has a host in an unusual form", "a name, an IPv4 address, or an [IPv6] address")
    port = int(parts["port"]) if parts["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise refused("has a port that is none", "1 to 65535")
    host = _host(parts["host"])
    if host is None:
        raise refused("has a host in an unusual form", "a name, an IPv4 address, or an [IPv6] address")
    # Asked for as host and port were read here, whatever else somebody could read in the text.
    rest = text[found.end() :].partition("#")[0]
    address = _address(host)
    bracketed = f"[{host}]" if ":" in host else host
    try:
        url = httpx.URL(f"{scheme}://{bracketed}:{port}{rest if rest.startswith('/') else '/' + rest}")
    except httpx.InvalidURL:
        raise refused("cannot be read", "a URL by RFC 3986") from None
    return Target(url, scheme, host, port, address, shown(text))


def literal_refused(address: Address | None) -> bool:
    """Whether a host that is an address is refused as it stands. An address that carries another one is
    something for resolvers to answer, not for people to write."""
    return address is not None and (not is_public(address) or carries_ipv4(address))


def _host(text: str) -> str | None:
    """A host in its one spelling; None for every other."""
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            return None
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            return None
    return host


def _address(host: str) -> Address | None:
    try:
        return parse_address(host)
    except ValueError:
        return None
