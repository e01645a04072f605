"""What is known of the call that is being answered, for handlers, log lines and errors."""

from __future__ import annotations

from contextvars import ContextVar

from upscaled_server.access.access import NO_KEY, Identity

# The id the caller gave; empty before the request has been read, or where none was given.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# Who calls, once that is established.
identity: ContextVar[Identity] = ContextVar("identity", default=NO_KEY)
