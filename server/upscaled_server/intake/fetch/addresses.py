"""Which addresses lead to the public internet, by a table of our own.

`ipaddress.is_global` is not enough: which special ranges it knows differs between patch releases of Python,
and it takes multicast and addresses that carry another one inside for global.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# The IANA registry of special-purpose addresses (RFC 6890 and its successors), and what clouds put on others.
_REFUSED_V4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT; also metadata of Alibaba Cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host of an Azure machine
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# What DNS64 answers for names that have IPv4 addresses only (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")
# Before the last 32 bits of the interface identifier of ISATAP (RFC 5214), which are an IPv4 address.
_ISATAP = (0x00005EFE, 0x02005EFE)


def parse_address(text: str) -> Address:
    """Raises ValueError for what is no address, also for one with a zone."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError("an address with a zone")
    return address


def is_public(address: Address) -> bool:
    """Whether the address may be dialled for a stranger."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    # Everything outside is refused: loopback, mapped, compatible, translated, local NAT64, unique local,
    # link-local, multicast.
    if address not in _GLOBAL_UNICAST or any(address in network for network in _REFUSED_V6):
        return False
    return not carries_ipv4(address)


def carries_ipv4(address: Address) -> bool:
    """Whether another address is written inside this one where translators look for it."""
    if isinstance(address, IPv4Address):
        return False
    return address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
