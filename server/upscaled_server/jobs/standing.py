"""How far the work on a job is, as one server tells others."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from upscaled_server.jobs.board import Place
from upscaled_server.pipeline.events import Plan, Progress


@dataclass(frozen=True, slots=True)
class Standing:
    """What a `Place` knows, of the attempt that its number of progress belongs to."""

    plan: Plan | None
    progress: Progress | None
    progress_number: int
    progress_time: float
    tiles: int


_STANDING = TypeAdapter(Standing)


def pack(place: Place) -> bytes:
    return _STANDING.dump_json(
        Standing(place.plan, place.progress, place.progress_number, place.progress_time, place.tiles),
        exclude_defaults=True,
    )


def apply(packed: bytes, place: Place) -> None:
    """Show at a place what was told; what cannot be read, as of another version, shows nothing."""
    try:
        told = _STANDING.validate_json(packed)
    except ValidationError:
        return
    place.plan, place.progress, place.tiles = told.plan, told.progress, told.tiles
    place.progress_number, place.progress_time = told.progress_number, told.progress_time
    place.wake()
