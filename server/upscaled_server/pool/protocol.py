"""What the server and a worker say to each other.

    server  {"id": 7, "op": "step", "run": 3, …}                 a request
    worker  {"id": 7, "result": {…}}                             its answer, or
            {"id": 7, "error": {"kind": …, "message": …, "says": {…}}}
    both    {"free": 12}                                         the rows in your buffer 12 have been read

An answer, of either kind, may have `"report": {…}` beside it: what the worker tells of its device and of
itself, whoever asked and whether or not somebody waits for the answer.

    out_of_memory, nan_fallbacks              how often since the last answer
    seconds, pixels, images                   of a step: device seconds, input pixels, images computed
                                              together (told once for all of them)
    resident_bytes, cpu_seconds, memory_bytes of a `ping`: the process, and the device's memory in use
    model, load_seconds                       of a `load` that brought the model into memory

Requests: `hello`, `ping`, `load`, `unload`, `open`, `feed`, `step`, `close`. Those of one run are
done in order, those of different runs are not, except that steps begin in the order in which they were asked
for. A request or an answer with `"pixels"` comes with a descriptor (`pixels.py`).
"""

from __future__ import annotations

from typing import Any

from upscaled_server import errors
from upscaled_server.errors import DomainError, OutOfMemory, ProcessingFailed
from upscaled_server.pool.transport import Message

EXIT_SERVER_GONE = 71
"""Exit status of a worker whose server has vanished."""
EXIT_DEVICE_FAILED = 72
"""Exit status of a worker that can do nothing more with its device."""

_MAX_TEXT = 2000
_MAX_ENTRIES = 32

_KINDS: dict[str, type[DomainError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DomainError)
}


class RunClosed(ProcessingFailed):
    """What was asked of a run came after its end: its caller has left, and nobody waits for the answer."""


def pack_error(error: BaseException) -> Message:
    """An error for the message. Of one that is not ours only that it happened: its text may tell too much."""
    if isinstance(error, MemoryError):
        error = OutOfMemory("the worker ran out of memory")
    if not isinstance(error, DomainError):
        error = ProcessingFailed("the image could not be computed; the server's log has the details")
    kind = next(each.__name__ for each in type(error).__mro__ if _KINDS.get(each.__name__) is each)
    says = {
        name: _bounded(value)
        for name, value in vars(error).items()
        if name not in ("message", "numbers") and isinstance(value, str | int | float)
    }
    numbers = {name: _bounded(value) for name, value in list(error.numbers.items())[:_MAX_ENTRIES]}
    return {"kind": kind, "message": _bounded(error.message), "numbers": numbers, "says": says}


def unpack_error(packed: Message) -> DomainError:
    """The error as it was raised: class, message, numbers and attributes."""
    kind = _KINDS.get(str(packed.get("kind")), ProcessingFailed)
    # Past the constructors, since each class has its own: their results are what was sent.
    error = kind.__new__(kind, packed["message"])
    DomainError.__init__(error, packed["message"], **packed["numbers"])
    vars(error).update(packed["says"])
    return error


def is_expected(error: BaseException) -> bool:
    """Whether an error says all there is to say, so that its traceback is not wanted in the log."""
    return isinstance(error, DomainError) and not (
        isinstance(error, ProcessingFailed) and not isinstance(error, OutOfMemory | RunClosed)
    )


def _bounded(value: Any) -> Any:
    return value[:_MAX_TEXT] if isinstance(value, str) else value
