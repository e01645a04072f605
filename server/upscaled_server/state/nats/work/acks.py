"""What a replica says of an item that it was given, and that NATS heard it."""

from __future__ import annotations

from upscaled_server.state.nats.connection import Connection

DONE = b"+ACK"
NOT_DONE = b"-NAK"
PROGRESS = b"+WPI"

# The connection ends an attempt long before that.
_ANSWER_SECONDS = 60.0


async def acknowledge(connection: Connection, address: str, what: bytes) -> None:
    """Return when NATS has confirmed it. Within a deadline of the connection, whose errors it raises."""
    await connection.ask(lambda _: connection.client.request(address, what, timeout=_ANSWER_SECONDS))
