"""A job may be deleted as soon as it can be read that it has ended, while its end is still being written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from jobs_bench import ANNA, open_bench, wanted

from upscaled_server.errors import NotFound
from upscaled_server.jobs.job import Job, State


async def test_a_job_that_is_deleted_at_once_takes_no_place_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench(tmp_path, max_running_jobs=1) as bench:

        async def delete(job: Job) -> None:
            await bench.jobs.delete(ANNA, job.id)

        monkeypatch.setattr(bench.receivers, "enqueue", delete)
        deleted = await bench.jobs.create(replace(wanted(), callback_url="https://example.com/done"))
        following = await bench.jobs.create(wanted())
        assert (await bench.jobs.ended(ANNA, following.id, 10)).job.state is State.SUCCEEDED
        with pytest.raises(NotFound):
            await bench.jobs.get(ANNA, deleted.id)
