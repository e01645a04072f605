"""What is known of the call that is being answered, for handlers, log lines and errors."""

from __future__ import annotations

from contextvars import ContextVar

from upscaled_server.access.access import NO_KEY, Identity
from upscaled_server.access.caller import ANONYMOUS
from upscaled_server.telemetry import log_lines

# The id the caller gave; empty before the request has been read, or where none was given.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# Who calls, once that is established.
identity: ContextVar[Identity] = ContextVar("identity", default=NO_KEY)


def identify(who: Identity) -> None:
    """From here on this caller is answered."""
    identity.set(who)
    log_lines.bind(caller=name())


def name() -> str:
    """Of who calls; empty where that is nobody in particular."""
    found = identity.get().caller.name
    return "" if found == ANONYMOUS.name else found


def name_request(request: str) -> None:
    """The id has been read."""
    request_id.set(request)
    log_lines.bind(request_id=request)
