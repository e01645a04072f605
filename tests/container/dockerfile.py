"""Reads a Dockerfile: its stages and their instructions. No more of the format than ours uses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value's words, without its flags; of the exec form its strings."""
        if self.value.startswith("["):
            strings: list[str] = json.loads(self.value)
            return strings
        return [word for word in self.value.split() if not word.startswith("--")]

    def flag(self, name: str) -> str | None:
        found = re.search(rf"(?:^|\s)--{name}=(\S+)", self.value)
        return found[1] if found else None


@dataclass(slots=True)
class Stage:
    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]


@dataclass(slots=True)
class Dockerfile:
    arguments: dict[str, str]
    stages: dict[str, Stage]

    def lineage(self, name: str) -> list[Stage]:
        """The stage and those it stands on, the lowest first."""
        stage = self.stages[name]
        below = self.lineage(stage.base) if stage.base in self.stages else []
        return [*below, stage]

    def last(self, stage: str, name: str) -> Instruction:
        """The instruction that is in force at the end of a stage."""
        return [each for part in self.lineage(stage) for each in part.all(name)][-1]

    def environment(self, stage: str) -> dict[str, str]:
        pairs = [
            pair.partition("=")
            for part in self.lineage(stage)
            for each in part.all("ENV")
            for pair in each.value.split()
        ]
        return {name: value for name, _, value in pairs}


def read(path: Path) -> Dockerfile:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    found = Dockerfile({}, {})
    stage: Stage | None = None
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.strip().partition(" ")
        if not name:
            continue
        instruction = Instruction(name, " ".join(value.split()))
        if name == "FROM":
            base, _, label = instruction.words
            stage = found.stages[label] = Stage(label, base)
        elif stage is None:
            argument, _, default = value.partition("=")
            found.arguments[argument] = default
        else:
            stage.instructions.append(instruction)
    return found
