"""What an operator opens is open, and nothing beside it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from upscaled_server.intake.fetch.allowed import Opening, Openings

WEB = frozenset({80, 443})


def openings(*entries: str) -> Openings:
    return Openings(map(Opening.parse, entries), WEB)


def test_a_name_is_open_at_its_port_only() -> None:
    opened = openings("Photos.Internal:9000")
    assert opened.host("photos.internal", 9000)
    assert not opened.host("photos.internal", 80)
    assert not opened.host("other.photos.internal", 9000)
    assert not opened.host("internal", 9000)


def test_a_name_without_a_port_is_open_at_the_ports_of_everybody() -> None:
    opened = openings("photos.internal")
    assert opened.host("photos.internal", 443)
    assert not opened.host("photos.internal", 22)


def test_a_star_stands_for_everything_below_a_domain_and_not_the_domain() -> None:
    opened = openings("*.svc.cluster.local:8080")
    assert opened.host("a.b.svc.cluster.local", 8080)
    assert not opened.host("svc.cluster.local", 8080)
    assert not opened.host("xsvc.cluster.local", 8080)


@pytest.mark.parametrize("entry", ["10.1.0.0/16:9000", "10.1.2.3:9000", "[10.1.2.3]:9000"])
def test_a_network_is_open_at_its_port_only(entry: str) -> None:
    opened = openings(entry)
    assert opened.address(ip_address("10.1.2.3"), 9000)
    assert not opened.address(ip_address("10.1.2.3"), 80)
    assert not opened.address(ip_address("10.2.2.3"), 9000)


def test_networks_of_ipv6_stand_in_brackets() -> None:
    opened = openings("[fd00::/8]:9000", "[fd00::1]")
    assert opened.address(ip_address("fd12::1"), 9000)
    assert opened.address(ip_address("fd00::1"), 443)
    assert not opened.address(ip_address("fd12::1"), 443)
    assert not opened.address(ip_address("10.0.0.1"), 9000)


@pytest.mark.parametrize(
    "entry",
    ["", "http://a", "a:b", "a:0", "a:65536", "a b", "10.0.0.1/8", "10.0.0", "127.1", "a*b", "[a]", "a/8"],
)
def test_anything_else_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not HOST"):
        Opening.parse(entry)
