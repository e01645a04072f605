"""A name server on this machine, and a resolver that asks it over UDP as any other would."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord

# What the names of the test's internet lead to; several sets of answers are given one after the other, the
# last of them again and again.
PUBLIC_ADDRESS = "93.184.216.34"
ZONE: dict[str, list[list[str]]] = {
    "public.test": [[PUBLIC_ADDRESS]],
    "public6.test": [["2606:2800:220:1::1"]],
    "nat64.test": [["64:ff9b::5db8:d822"]],
    "rebind.test": [[PUBLIC_ADDRESS], ["127.0.0.1"]],
    "cname-private.test": [["CNAME internal.test"]],
    "internal.test": [["10.0.0.1"]],
    "mixed.test": [[PUBLIC_ADDRESS, "10.0.0.1"]],
    "mixed6.test": [[PUBLIC_ADDRESS, "::1"]],
    "localhost": [["127.0.0.1", "::1"]],
    "localhost.localdomain": [["127.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "nat64-inside.test": [["64:ff9b::7f00:1"]],
    "two.test": [["93.184.216.99", PUBLIC_ADDRESS]],
}


class NameServer(asyncio.DatagramProtocol):
    """`asked` counts the questions for A records by name."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        assert self._transport is not None
        address: tuple[str, int] = self._transport.get_extra_info("sockname")
        return address

    def stop(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip(".").lower(), question.q.qtype
        answer = question.reply()
        if name not in ZONE:
            answer.header.rcode = RCODE.NXDOMAIN
        self._add(answer, name, kind)
        assert self._transport is not None
        self._transport.sendto(answer.pack(), addr)

    def _add(self, answer: DNSRecord, name: str, kind: int) -> None:
        sets = ZONE.get(name, [])
        if not sets:
            return
        turn = self.asked[name]
        if kind == QTYPE.A:
            self.asked[name] += 1
        for value in sets[min(turn, len(sets) - 1)]:
            if value.startswith("CNAME "):
                alias = value.removeprefix("CNAME ")
                answer.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(alias), ttl=0))
                self._add(answer, alias, kind)
            elif ":" in value and kind == QTYPE.AAAA:
                answer.add_answer(RR(name, QTYPE.AAAA, rdata=AAAA(value), ttl=0))
            elif ":" not in value and kind == QTYPE.A:
                answer.add_answer(RR(name, QTYPE.A, rdata=A(value), ttl=0))


class StubResolver:
    """Asks one name server for IPv6 and IPv4 addresses."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        found = [*await self._ask(host, "AAAA"), *await self._ask(host, "A")]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return found

    def close(self) -> None:
        pass

    async def _ask(self, host: str, kind: str) -> list[str]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._server)
            await loop.sock_sendall(sock, DNSRecord.question(host, kind).pack())
            async with asyncio.timeout(5):
                answer = DNSRecord.parse(await loop.sock_recv(sock, 4096))
        return [str(each.rdata) for each in answer.rr if QTYPE[each.rtype] == kind]
