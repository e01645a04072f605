"""What the network policy lets the server dial is what the server itself would dial."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kubernetes.rendering import Choice, Object, named
from upscaled_server.intake.fetch.addresses import Address, carries_ipv4, is_public

Block = tuple[
    ipaddress.IPv4Network | ipaddress.IPv6Network, list[ipaddress.IPv4Network | ipaddress.IPv6Network]
]


def _blocks(policy: Object) -> list[Block]:
    return [
        (
            ipaddress.ip_network(peer["ipBlock"]["cidr"]),
            [ipaddress.ip_network(each) for each in peer["ipBlock"]["except"]],
        )
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
    ]


def _lets(blocks: list[Block], address: Address) -> bool:
    return any(address in cidr and not any(address in each for each in holes) for cidr, holes in blocks)


@pytest.fixture(scope="module", params=["public-web", "s3-blobs"])
def blocks(request: pytest.FixtureRequest, installations: dict[Choice, list[Object]]) -> list[Block]:
    objects = installations[Choice("cpu", (request.param,))]
    return _blocks(
        named(objects, "NetworkPolicy", {"s3-blobs": "upscaled-s3"}.get(request.param, "upscaled-public-web"))
    )


def _agree(blocks: list[Block], address: Address) -> None:
    if carries_ipv4(address):
        # A policy cannot look inside an address: ISATAP's pass, and the server refuses them; NAT64's
        # do not, although the server looks at what is inside.
        return
    assert _lets(blocks, address) == is_public(address), address


@settings(max_examples=300)
@given(st.ip_addresses())
@example(ipaddress.ip_address("169.254.169.254"))
@example(ipaddress.ip_address("::ffff:10.0.0.1"))
@example(ipaddress.ip_address("fd00:ec2::254"))
def test_policy_and_guard_agree_about_any_address(blocks: list[Block], address: Address) -> None:
    _agree(blocks, address)


def test_policy_and_guard_agree_at_the_edges_of_every_range(blocks: list[Block]) -> None:
    for cidr, holes in blocks:
        for network in (cidr, *holes):
            for edge in (network.network_address, network.broadcast_address):
                _agree(blocks, edge)
                for step in (-1, 1):
                    if 0 <= int(edge) + step < 2**network.max_prefixlen:
                        _agree(blocks, type(edge)(int(edge) + step))


def test_what_carries_another_address_is_not_let_through_a_translator(blocks: list[Block]) -> None:
    assert not _lets(blocks, ipaddress.ip_address("64:ff9b::a00:1"))


def test_without_the_component_nothing_is_dialled_but_names(
    installations: dict[Choice, list[Object]],
) -> None:
    policy = named(installations[Choice("cpu")], "NetworkPolicy", "upscaled")
    (rule,) = policy["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


@pytest.mark.parametrize(("component", "ports"), [("public-web", {80, 443}), ("s3-blobs", {443})])
def test_only_ports_of_the_web_are_opened(
    installations: dict[Choice, list[Object]], component: str, ports: set[int]
) -> None:
    policies = [
        each
        for each in installations[Choice("cpu", (component,))]
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] != "upscaled"
    ]
    (policy,) = policies
    (rule,) = policy["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == ports
    assert policy["spec"]["policyTypes"] == ["Egress"]
