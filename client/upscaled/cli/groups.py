"""Options that several commands share, declared once.

A group is a dataclass whose fields are typer options. A command takes it as one parameter, and `grouped` puts
the options in its place:

    @grouped
    def submit(inputs: Inputs, image: ImageOptions, connection: Connection) -> None: ...
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: every parameter whose type is a dataclass, field by field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            shown += [_option(field, get_type_hints(kind, include_extras=True)) for field in _fields(kind)]
        else:
            shown.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**values: Any) -> None:
        given = {
            name: kind(**{field.name: values.pop(field.name) for field in _fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **given)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # PEP 362
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _option(field: dataclasses.Field[Any], hints: dict[str, Any]) -> inspect.Parameter:
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
    )
