"""Log records as lines: one JSON object, or text for people. Whatever a caller put into a record, it begins
no line of its own and holds no secret.

Needs the standard library alone: worker and codec processes have it too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any

from upscaled_server.telemetry import tracing

# Control characters, the line ends of Unicode, and halves of surrogate pairs, which no encoding takes.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Characters of a message, of one name or id, and of a line of a traceback; the rest is cut off.
_MAX_TEXT = 8192

# Their repetitions have bounds where others could make them look again and again from every next character.
_SECRETS = (
    # Keys, whole or in part, wherever a caller puts one by mistake: only the public id is written down.
    (re.compile(r"(upk_[a-z0-9]{12}_)[A-Za-z0-9]+"), r"\1…"),
    (re.compile(r"(whsec_)[A-Za-z0-9+/=_-]+"), r"\1…"),
    (re.compile(r"(?i)(\bbearer\s+)(?!upk_)[\w.~+/=-]{8,}"), r"\1…"),
    (re.compile(r"\beyJ[\w-]{1,2000}\.[\w-]+\.[\w-]*"), "…"),
    # Of URLs, whoever is named in them, and queries: both may be all that somebody needs to read a file.
    (re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/?#@\"'<>]+@"), r"\1…@"),
    (re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s?#\"'<>]{0,2000})\?[^\s\"'<>]*"), r"\1?…"),
    (re.compile(r"([?&][\w.%-]+=)[^\s&\"'<>]+"), r"\1…"),
)

_fields: ContextVar[dict[str, str]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed


def bind(**fields: str) -> None:
    """What is done here from now on is done for these: `request_id`, `job_id`, `caller`. Empty ones are left
    out. Holds for the task, and those it starts."""
    _fields.set({**_fields.get(), **{name: value for name, value in fields.items() if value}})


@contextmanager
def bound_to(**fields: str) -> Iterator[None]:
    """What is done in the block is done for these, and for nothing that was bound before."""
    token = _fields.set({name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _fields.reset(token)


def bound() -> dict[str, str]:
    """What is bound, with the trace."""
    trace_id = tracing.current().trace_id
    return {"trace_id": trace_id, **_fields.get()} if trace_id else _fields.get()


def cleaned(text: str) -> str:
    """On one line, whatever it holds, of a bounded length, and without secrets."""
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "…"
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Its lines, each of them cleaned; empty where there is none."""
    text = formatter.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
    return "\n".join(cleaned(line) for line in text.split("\n"))


class JsonFormatter(logging.Formatter):
    """One object a line, in ASCII: `time` (UTC, RFC 3339), `level`, `logger`, `event`, what is bound, and
    `exception`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": cleaned(record.name),
            "event": cleaned(record.getMessage()),
            **{name: cleaned(value) for name, value in _context(record).items()},
        }
        if traceback := _traceback(self, record):
            entry["exception"] = traceback
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    """The same for people: `time LEVEL logger: event [name=value …]`, tracebacks indented below."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        context = " ".join(f"{name}={cleaned(value)}" for name, value in _context(record).items())
        record.message = cleaned(record.getMessage())
        record.asctime = self.formatTime(record)
        line = self.formatMessage(record) + (f" [{context}]" if context else "")
        traceback = _traceback(self, record)
        return line + "".join(f"\n    {each}" for each in traceback.split("\n") if traceback)


def _context(record: logging.LogRecord) -> dict[str, str]:
    """What is bound here, or was where the record comes from."""
    context: dict[str, str] = getattr(record, "context", None) or bound()
    return context


def handler(stream: IO[str], *, as_json: bool) -> logging.Handler:
    made = logging.StreamHandler(stream)
    made.setFormatter(JsonFormatter() if as_json else TextFormatter())
    return made


def to_stderr(*, as_json: bool, level: int, stream: IO[str] | None = None) -> None:
    """The records of this process go to stderr, and so does an error that ends it. `stream`: where that
    leads, if it is not `sys.stderr`."""
    root = logging.getLogger()
    root.handlers[:] = [handler(sys.stderr if stream is None else stream, as_json=as_json)]
    root.setLevel(level)
    sys.excepthook = _log_end


def format_name() -> str:
    """How this process logs, for those that it starts and that write to the same stderr: json or text."""
    formatters = [each.formatter for each in logging.getLogger().handlers]
    return "json" if any(isinstance(each, JsonFormatter) for each in formatters) else "text"


def to_parent() -> None:
    """For a process whose stderr the server reads line by line, see `read_line`. The server leaves out what
    is below its own levels."""
    to_stderr(as_json=True, level=logging.WARNING)
    logging.getLogger("upscaled_server").setLevel(logging.DEBUG)


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("upscaled_server").critical("the process ends", exc_info=(kind, error, trace))


_LEVELS = {logging.getLevelName(level).lower(): level for level in (10, 20, 30, 40, 50)}


def read_line(line: str, context: dict[str, str]) -> logging.LogRecord | None:
    """The record that `JsonFormatter` of a process of ours made this line of, with more context; None for
    any other line, such as one that a library printed."""
    if not line.startswith("{"):
        return None
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    level, name, event = said.get("level"), said.get("logger"), said.get("event")
    if not (isinstance(name, str) and isinstance(event, str) and isinstance(level, str) and level in _LEVELS):
        return None
    traceback = said.get("exception")
    return logging.makeLogRecord(
        {
            "name": name,
            "levelno": _LEVELS[level],
            "levelname": level.upper(),
            "msg": event,
            "exc_text": traceback if isinstance(traceback, str) else None,
            "context": context,
        }
    )


def log_again(line: str, context: dict[str, str]) -> bool:
    """Log the record that a process of ours made this line of, if its level is logged here. False for any
    other line."""
    record = read_line(line, context)
    if record is None:
        return False
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
    return True
