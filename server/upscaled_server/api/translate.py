"""Between the messages of the contract and the server's own terms: `translate_in` and `translate_out` under
one name, for handlers that need both."""

from __future__ import annotations

from upscaled_server.api.translate_in import to_id, to_options, to_request_id, to_seconds, to_source
from upscaled_server.api.translate_out import (
    from_done,
    from_event,
    from_options,
    from_plan,
    from_progress,
    from_provenance,
    from_tile,
)

__all__ = [
    "from_done",
    "from_event",
    "from_options",
    "from_plan",
    "from_progress",
    "from_provenance",
    "from_tile",
    "to_id",
    "to_options",
    "to_request_id",
    "to_seconds",
    "to_source",
]
