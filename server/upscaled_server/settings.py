"""Reads the settings of every part from `UPSCALED_*` variables and one YAML file, and refuses names
nobody knows."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings

PREFIX = "UPSCALED_"

# Variables of the client and of this module, which share the prefix.
_OTHERS = {"UPSCALED_SERVER", "UPSCALED_API_KEY", "UPSCALED_CONFIG"}

# What Kubernetes injects for services whose name begins with `upscaled`.
_INJECTED = re.compile(
    r"UPSCALED(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_S = TypeVar("_S", bound=BaseSettings)


class SettingsError(Exception):
    """A setting that cannot be used; the message names the variable, what is allowed and what came."""


class Settings:
    """The settings of all parts, one object a class."""

    def __init__(self, kinds: Sequence[type[BaseSettings]], environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        names = {f"{PREFIX}{name}".upper(): name for kind in kinds for name in kind.model_fields}
        _refuse_unknown(
            [name for name in environ if name.startswith(PREFIX)], set(names) | _OTHERS, "environment"
        )
        path = environ.get("UPSCALED_CONFIG")
        from_file = _read_file(Path(path), set(names.values())) if path else {}
        from_environ = {field: environ[variable] for variable, field in names.items() if variable in environ}
        self._values = {kind: _build(kind, from_file | from_environ) for kind in kinds}

    def __getitem__(self, kind: type[_S]) -> _S:
        value = self._values[kind]
        if not isinstance(value, kind):
            raise KeyError(kind)
        return value


def _build(kind: type[BaseSettings], values: Mapping[str, Any]) -> BaseSettings:
    try:
        return _given_only(kind)(
            **{name: value for name, value in values.items() if name in kind.model_fields}
        )
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            variable = PREFIX + "_".join(map(str, problem["loc"])).upper()
            reason = problem["msg"].removeprefix("Value error, ").removeprefix(f"{variable} ")
            problems.append(f"{variable}: {reason} (got: {_shown(kind, problem['loc'], problem['input'])})")
        raise SettingsError("; ".join(problems)) from None


def _shown(kind: type[BaseSettings], location: tuple[int | str, ...], value: object) -> str:
    """A refused value as it may stand in a log: fields that hide theirs may hold a password."""
    fields = [kind.model_fields[name] for name in location[:1] if name in kind.model_fields]
    return repr(value) if all(field.repr for field in fields) else "a value that is not shown"


def _given_only(kind: type[_S]) -> type[_S]:
    """The same settings, from what they are given: by itself the class reads the process's environment in
    whatever case the names are, past the check for unknown ones."""

    def sources(
        _cls: type[BaseSettings], /, _kind: type[BaseSettings], init_settings: Any, **_others: Any
    ) -> tuple[Any, ...]:
        return (init_settings,)

    return type(kind.__name__, (kind,), {"settings_customise_sources": classmethod(sources)})


def _read_file(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"UPSCALED_CONFIG: cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"UPSCALED_CONFIG: {path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(
            f"UPSCALED_CONFIG: {path} must hold `name: value` lines, not a {type(content).__name__}"
        )
    _refuse_unknown(list(content), known, str(path))
    return content


def _refuse_unknown(names: Sequence[str], known: set[str], where: str) -> None:
    for name in names:
        if not isinstance(name, str):
            raise SettingsError(f"{name!r}: a setting's name must be text (in {where})")
        if name in known or _INJECTED.fullmatch(name):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SettingsError(f"{name}: no such setting (in {where}){hint}")
