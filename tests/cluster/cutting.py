"""Proxies between one server and the nodes of NATS, for the network between them to be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tests.integration.state.holding_proxy import HoldingProxy, holding_proxy
from tests.nats_servers import NatsServer


@dataclass(frozen=True, slots=True)
class Network:
    """What lies between. A cut is silent: connections stay, new ones are taken, and nothing comes through."""

    proxies: Sequence[HoldingProxy]

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.proxies]

    def cut(self) -> None:
        for each in self.proxies:
            each.hold()

    def mend(self) -> None:
        for each in self.proxies:
            each.go_on()


@asynccontextmanager
async def network(nodes: Sequence[NatsServer]) -> AsyncIterator[Network]:
    """In front of all nodes."""
    async with AsyncExitStack() as stack:
        yield Network([await stack.enter_async_context(holding_proxy(node.port)) for node in nodes])
        await asyncio.sleep(0)
