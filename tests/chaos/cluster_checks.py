"""What must hold of the jobs of a cluster, whatever happened to it meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import obstore
from obstore.store import from_url

from tests.cluster.traffic import PATIENT, Traffic, expected
from tests.cluster.whole import ALIKE, Cluster
from tests.e2e.conftest import running_server
from tests.reliability.record import Record
from upscaled import Client, Usage

CALLER = "chaos"
PRICE = 1.0
SETTINGS = {"UPSCALED_PRICES": f"default={PRICE:g}", "UPSCALED_MAX_RUNNING_JOBS": "2"}
_LISTED = 20


def undisturbed(numbers: Iterable[int], side: int = 64) -> dict[int, str]:
    """The outputs of a server by itself that cuts images as those of the cluster do."""
    with running_server(**ALIKE) as server:
        return asyncio.run(expected(server.address, numbers, side))


def note_outcomes(record: Record, traffic: Traffic, calm: dict[int, str]) -> None:
    """A job holds if it has the bytes of the undisturbed run."""
    wrong = []
    for number, outcome in sorted(traffic.outcomes.items()):
        if outcome.made_twice:
            wrong.append(f"job {number}: a second job was made for its request id")
        elif outcome.error:
            wrong.append(f"job {number} ({outcome.job_id or 'no id'}): {outcome.error}")
        elif outcome.sha256 != calm[number]:
            wrong.append(f"job {number} ({outcome.job_id}): other bytes than undisturbed")
        else:
            record.held += 1
    record.not_held += wrong[:_LISTED]
    ids = Counter(each.job_id for each in traffic.outcomes.values() if each.job_id)
    record.not_held += [f"{count} requests have the job {name}" for name, count in ids.items() if count > 1]


def charged(made: Cluster, key: str) -> Usage:
    with Client(made.address, api_key=key, timeout=60, retries=PATIENT) as client:
        return client.usage()


def note_charges(record: Record, usage: Usage, count: int) -> None:
    """Each of `count` results is paid once."""
    requests = sum(each.requests for each in usage.models)
    record.figures |= {"credits_charged": usage.credits_used, "charges": requests}
    if abs(usage.credits_used - count * PRICE) > 1e-6 or requests != count:
        record.not_held.append(
            f"{count} results were charged {requests} times, {usage.credits_used:g} credits in all"
        )


def check_ended(made: Cluster, traffic: Traffic) -> list[str]:
    """What is wrong with the files that are kept: each output once, and nothing else."""
    wanted = {each.job_id for each in traffic.outcomes.values() if each.job_id}
    kept = _paths(made)
    outputs = Counter(path.split("/")[1] for path in kept if path.startswith("outputs/"))
    found = []
    if missing := wanted - outputs.keys():
        found.append(f"{len(missing)} outputs are not stored, such as {min(missing)}")
    if others := [path for path in kept if path.split("/")[1] not in wanted]:
        found.append(f"{len(others)} files belong to no job, such as {min(others)}")
    return found


def _paths(made: Cluster) -> list[str]:
    environ = made.s3.environment
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    config: dict[str, Any] = {name.lower(): environ[name] for name in names}
    store = from_url(f"s3://{made.bucket}", config=config, client_options={"allow_http": True})

    async def listed() -> list[str]:
        return [each["path"] async for found in obstore.list(store) for each in found]

    return asyncio.run(listed())
