"""A server that runs one image on a pool: `python pool_test_server.py TOOLS_FOLDER CACHE_FOLDER`.

Prints the pid of its worker as soon as it has one.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.pool.pool import Pool


async def main(tools: str, cache: str) -> None:
    sys.path.insert(0, tools)
    from pool_tools import cpu_settings, make_plan, run_image

    pool = Pool(cpu_settings(), StoreOptions(Path(cache)), engine="pool_test_engine:build")
    await pool.start()
    (supervisor,) = pool._fleet
    print((await supervisor.available()).pid, flush=True)
    await run_image(pool, make_plan(40, 40))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
