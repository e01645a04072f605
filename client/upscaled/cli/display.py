"""What a person sees while an image is made: a live bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from upscaled import Plan
from upscaled import Progress as ProgressEvent
from upscaled.cli.estimate import duration

_PLAIN_EVERY_SECONDS: Final = 10.0
_STAGES: Final = {
    "fetch": "sending",
    "decode": "decoding",
    "queue": "waiting",
    "infer": "upscaling",
    "resample": "resampling",
    "encode": "encoding",
    "store": "storing",
}


class Display(Protocol):
    """Shows one image at a time. Used as a context manager."""

    def begin(self, name: str, doing: str = "sending") -> None: ...

    def plan(self, plan: Plan) -> None: ...

    def progress(self, event: ProgressEvent) -> None: ...

    def end(self) -> None: ...

    def say(self, text: str) -> None:
        """A remark, on standard error."""

    def result(self, text: str) -> None:
        """A line on standard output."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_display() -> Display:
    """On standard error, so that standard output holds results only."""
    console = Console(stderr=True, highlight=False)
    return _Live(console) if console.is_terminal else _Plain()


class _Rate:
    """Output megapixels per second since the network began."""

    def __init__(self) -> None:
        self._width = 0
        self._start: float | None = None
        self._first_rows = 0

    def plan(self, plan: Plan) -> None:
        self._width = plan.output_width
        self._start = None

    def text(self, event: ProgressEvent) -> str:
        now = time.monotonic()
        if self._start is None:
            if event.stage == "infer" or event.rows_done > 0:
                self._start, self._first_rows = now, event.rows_done
            return ""
        elapsed = now - self._start
        rows = event.rows_done - self._first_rows
        return f"{rows * self._width / 1e6 / elapsed:.3g} MP/s" if elapsed > 0 and rows > 0 else ""


def _rows(event: ProgressEvent) -> str:
    return f"{event.rows_done}/{event.rows_total} rows" if event.rows_total else ""


def _left(event: ProgressEvent) -> str:
    left = f"{duration(event.remaining_seconds)} left" if event.remaining_seconds is not None else ""
    if event.stage == "queue" and event.queue_position:
        return ", ".join(part for part in (f"{event.queue_position} ahead", left) if part)
    return left


class _Live:
    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._rate = _Rate()

    def __enter__(self) -> _Live:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, name: str, doing: str = "sending") -> None:
        self._name = name
        self._task = self._bar.add_task(f"{name} {doing}", total=1.0, detail="")

    def plan(self, plan: Plan) -> None:
        self._rate.plan(plan)
        if self._task is not None:
            estimate = f"about {duration(plan.estimated_seconds)}" if plan.estimated_seconds else ""
            size = f"{plan.output_width}x{plan.output_height}"
            self._bar.update(self._task, completed=0.0, detail=f"{size}  {estimate}".strip())

    def progress(self, event: ProgressEvent) -> None:
        if self._task is not None:
            detail = "  ".join(part for part in (_rows(event), self._rate.text(event), _left(event)) if part)
            self._bar.update(
                self._task,
                description=f"{self._name} {_STAGES.get(event.stage, event.stage)}",
                completed=event.fraction,
                detail=detail,
            )

    def end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        # Both streams may be one terminal, and the bar knows only of its own.
        self._bar.stop()
        typer.echo(text)
        self._bar.start()


class _Plain:
    def __init__(self) -> None:
        self._name = ""
        self._said = 0.0
        self._rate = _Rate()

    def __enter__(self) -> _Plain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, name: str, doing: str = "sending") -> None:  # noqa: ARG002 - told by what follows
        self._name = name
        self._said = time.monotonic()

    def plan(self, plan: Plan) -> None:
        self._rate.plan(plan)
        estimate = f", about {duration(plan.estimated_seconds)}" if plan.estimated_seconds else ""
        self.say(
            f"{self._name}: {plan.input_width}x{plan.input_height} to "
            f"{plan.output_width}x{plan.output_height}{estimate}"
        )

    def progress(self, event: ProgressEvent) -> None:
        rate = self._rate.text(event)
        now = time.monotonic()
        if now - self._said >= _PLAIN_EVERY_SECONDS:
            self._said = now
            parts = (f"{event.fraction:.0%}", _rows(event), rate, _left(event))
            self.say(f"{self._name}: " + ", ".join(part for part in parts if part))

    def end(self) -> None:
        return

    def say(self, text: str) -> None:
        typer.echo(text, err=True)

    def result(self, text: str) -> None:
        typer.echo(text)
