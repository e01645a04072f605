"""Ids of jobs: ULIDs, so that they lie in the store in the order of their creation."""

from __future__ import annotations

import math

from upscaled_server.state.ulid import first_ulid, is_ulid, milliseconds_of, new_ulid

LENGTH = 26

new_id = new_ulid
is_id = is_ulid


def time_of(job_id: str) -> float:
    """Seconds since 1970, to the millisecond."""
    return milliseconds_of(job_id) / 1000


def first_id_at(seconds: float) -> str:
    """The smallest id of a job created at this time or later."""
    return first_ulid(max(0, math.ceil(seconds * 1000)))
