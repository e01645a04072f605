"""Options that several commands share are declared once, and seen by each as its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

import typer
from click.testing import Result
from typer import testing

from upscaled.cli.groups import grouped
from upscaled.cli.moments import moment, shown, span


@dataclass(frozen=True, slots=True)
class Shared:
    size: Annotated[int, typer.Option("--size", help="How large.")] = 3
    loud: Annotated[bool, typer.Option("--loud")] = False


def run(*arguments: str) -> Result:
    app = typer.Typer()

    @app.command()
    @grouped
    def say(
        words: Annotated[list[str], typer.Argument()],
        *,
        shared: Shared,
        end: Annotated[str, typer.Option("--end")] = ".",
    ) -> None:
        """Says it."""
        typer.echo(f"{' '.join(words)} {shared.size} {shared.loud}{end}")

    return testing.CliRunner().invoke(app, list(arguments))


def test_the_group_arrives_as_one_value() -> None:
    assert run("a", "b", "--loud", "--size", "5", "--end", "!").output == "a b 5 True!\n"
    assert run("a").output == "a 3 False.\n"


def test_the_help_shows_them_in_their_place() -> None:
    text = run("--help").output
    assert text.index("--size") < text.index("--loud") < text.index("--end")
    assert "Says it." in text
    assert "How large." in text


def test_a_wrong_value_is_wrong_usage() -> None:
    assert run("a", "--size", "large").exit_code == 2


def test_times_are_read_as_people_write_them() -> None:
    found = moment("2026-11-01")
    assert found is not None
    assert found.isoformat() == "2026-11-01T00:00:00+00:00"
    later = moment("2026-11-01T08:30+02:00")
    assert later is not None
    assert shown(later) == "2026-11-01 06:30:00Z"
    ago, now = moment("2h"), moment("1s")
    assert ago is not None
    assert now is not None
    assert 7100 < (now - ago).total_seconds() < 7300
    assert (moment(None), shown(None)) == (None, "")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "7 apples", "0s", ""])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("30min", 1800), ("7d", 604_800)]
)
def test_spans_are_read_as_people_write_them(text: str, seconds: float) -> None:
    found = span(text)
    assert found is not None
    assert found.total_seconds() == seconds
