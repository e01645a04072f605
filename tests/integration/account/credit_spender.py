"""Spends the credits of a caller as one of several servers would, until nothing is left: a process of its
own, to be killed.

    python credit_spender.py NATS_URL PREFIX SEED
"""

from __future__ import annotations

import asyncio
import random
import sys

from upscaled_server.access.caller import Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.prices import PriceSettings
from upscaled_server.access.stored_aside import AsideInStore
from upscaled_server.errors import QuotaExceeded
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore

CALLER = Caller("thumbnails", monthly_credits=400)
PRICES = PriceSettings.model_validate({"prices": "default=1"})
MODEL = "real-esrgan-x4-plus"
PIXELS = 1_000_000
COUNTS_SECONDS = 1.0


def credits_over(store: NatsStore) -> Credits:
    return Credits(store, PRICES, aside=AsideInStore(store, counts_seconds=COUNTS_SECONDS))


async def spend(url: str, prefix: str, seed: int) -> None:
    chance = random.Random(seed)
    settings = ClusterSettings.model_validate(
        {
            "cluster_url": url,
            "cluster_prefix": prefix,
            "cluster_replicas": 1,
            "cluster_max_state_bytes": 64 << 20,
        }
    )
    store = await NatsStore.open(settings)
    kept = credits_over(store)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    async def work() -> None:
        while True:
            try:
                async with kept.reserved(CALLER, "", MODEL, PIXELS) as charge:
                    await asyncio.sleep(chance.random() / 50)
                    if charge is not None and chance.random() < 0.9:
                        await charge.settle(PIXELS)
            except QuotaExceeded:
                if await kept.remaining(CALLER) == 0:
                    return
                await asyncio.sleep(chance.random() / 10)

    await asyncio.gather(*(work() for _ in range(4)))
    await kept.aclose()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], sys.argv[2], int(sys.argv[3])))
