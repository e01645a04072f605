"""What a call answers with: the contract's result and events as plain values."""

from upscaled._results.output import Output
from upscaled._results.pieces import Chunk, Tile
from upscaled._results.plan import Plan, Progress
from upscaled._results.result import Done, Event, Result
from upscaled._results.settings import Settings
from upscaled._results.work import Credits, Provenance, Timings

__all__ = [
    "Chunk",
    "Credits",
    "Done",
    "Event",
    "Output",
    "Plan",
    "Progress",
    "Provenance",
    "Result",
    "Settings",
    "Tile",
    "Timings",
]
