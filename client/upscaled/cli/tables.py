"""Tables on standard output: fitted to a terminal, never cut in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table

_PIPE_COLUMNS = 500


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Columns whose heading is in `right` are set flush right. Where there is no room, the last column is
    folded, then those before it are cut, but never the first: it is what people copy.
    """
    lines = list(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        first, last = number == 0, number == len(headings) - 1
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
            min_width=max(len(line[0]) for line in [headings, *lines]) if first else None,
        )
    for line in lines:
        table.add_row(*line)
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = _PIPE_COLUMNS  # a pipe has no width
    with console.capture() as text:
        console.print(table)
    for shown in text.get().splitlines():
        typer.echo(shown.rstrip())
