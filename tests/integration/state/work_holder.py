"""A process that takes items and works on them until it is killed.

python work_holder.py SETTINGS LEASE_SECONDS COUNT
"""

from __future__ import annotations

import asyncio
import sys

from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.queue import WorkQueue


async def main() -> None:
    settings = ClusterSettings.model_validate_json(sys.argv[1])
    queue = await WorkQueue.open(settings, lease_seconds=float(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        lease = await queue.take()
        assert lease is not None
        print(lease.item.id, flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
