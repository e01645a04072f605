"""What is known of the call that is being answered, for log lines and errors."""

from __future__ import annotations

from contextvars import ContextVar

# The id the caller gave; empty before the request has been read, or where none was given.
request_id: ContextVar[str] = ContextVar("request_id", default="")
