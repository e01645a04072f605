"""The board on a terminal, as a table that changes; elsewhere as lines."""

from __future__ import annotations

import asyncio
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.cluster.demo.board import Board

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 2.0
_LAST_EVENTS = 6
_COLOURS = {"serving": "green", "up": "green", "down": "red"}


async def show(board: Board) -> None:
    """Until cancelled; what is so at the end stays."""
    await (_live(board) if sys.stdout.isatty() else _lines(board))


async def _live(board: Board) -> None:
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while True:
                live.update(_table(board), refresh=True)
                await asyncio.sleep(_REFRESH_SECONDS)
        finally:
            live.update(_table(board), refresh=True)


def _table(board: Board) -> Group:
    table = Table(title=board.counts, title_justify="left")
    for column in ("", "state", ""):
        table.add_column(column)
    for name, state, more in board.rows():
        table.add_row(name, Text(state, style=_COLOURS.get(state, "yellow")), more)
    return Group(table, *board.events[-_LAST_EVENTS:])


async def _lines(board: Board) -> None:
    """What happens as it happens, and how far it is now and then."""
    told, next_line = 0, time.monotonic()
    try:
        while True:
            for event in board.events[told:]:
                print(event, flush=True)
            told = len(board.events)
            if time.monotonic() >= next_line:
                print(board.counts, flush=True)
                next_line += _LINE_SECONDS
            await asyncio.sleep(_REFRESH_SECONDS)
    finally:
        for line in [*board.events[told:], board.counts, *(" ".join(row) for row in board.rows())]:
            print(line, flush=True)
