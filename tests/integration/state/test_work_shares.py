"""Owners share the queue by cost: one that puts in a lot at once keeps nobody else waiting."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.nats_servers import NatsServer
from work_queues import item, owners, queues, take

from upscaled_server.state.nats.work.queue import WorkQueue


async def _until_one_has_all(queues: list[WorkQueue], counts: dict[str, int]) -> Counter[str]:
    """The cost that each owner was given until one of the smaller ones had everything, over all replicas,
    which take turns."""
    had: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    while all(taken[owner] < count for owner, count in counts.items()):
        for queue in queues:
            lease = await take(queue)
            had[lease.item.owner] += lease.item.cost  # type: ignore[assignment]
            taken[lease.item.owner] += 1
            await lease.done()
    return had


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("costs", [(1.0, 1.0, 1.0), (1.0, 4.0, 0.5), (4.0, 1.0, 1.0)], ids=str)
async def test_a_burst_leaves_the_others_their_shares(
    nats_server: NatsServer, urgent: bool, replicas: int, costs: tuple[float, ...]
) -> None:
    many, *few = owners(3)
    counts = {many: 200, few[0]: 20, few[1]: 20}
    async with queues([nats_server], replicas) as opened:
        for (owner, count), cost in zip(counts.items(), costs, strict=True):
            for number in range(count):
                await opened[0].publish(item(f"{owner}-{number}", owner=owner, urgent=urgent, cost=cost))
        had = await _until_one_has_all(opened, counts)
        fair = sum(had.values()) / len(counts)
        # To within 20%, and the item that is under way at each replica.
        assert all(
            abs(had[owner] - fair) <= 0.2 * fair + replicas * cost
            for owner, cost in zip(counts, costs, strict=True)
        ), had
        if max(costs) == min(costs):
            assert min(had[owner] for owner in few) >= 0.8 * fair, had


async def test_who_comes_late_is_not_behind_a_burst(nats_server: NatsServer) -> None:
    many, late = owners(2)
    async with queues([nats_server]) as (queue,):
        for number in range(200):
            await queue.publish(item(f"many-{number}", owner=many))
        for _ in range(50):
            await (await take(queue)).done()
        await queue.publish(item("late", owner=late))
        taken = []
        for _ in range(10):  # the replica hears of it after a few
            lease = await take(queue)
            taken.append(lease.item.owner)
            await lease.done()
        assert late in taken
