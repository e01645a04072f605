"""The JSON of a run, which may be made in parts."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from tests.benchmarks.contest.cases import Case

_OF_ONE_RUN = ("cpu", "cores", "memory_bytes", "system", "python", "versions")

_OF_ONE_CASE = ("commit", "changed")
_CHANGING = (*_OF_ONE_CASE, "time", "load")


class Record:
    """What was measured so far. Written after every case, so that an interrupted run is not lost."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path = path
        self._made_by = {name: head["machine"][name] for name in _OF_ONE_CASE}
        machine = {name: value for name, value in head["machine"].items() if name not in _CHANGING}
        self._report: dict[str, Any] = {**head, "machine": machine, "cases": []}

    def take_up(self) -> None:
        """Go on with the file, if there is one. Raises ValueError where it was made on another machine, with
        other versions or otherwise than this run will be. The commit is each case's own: all that is compared
        with each other took turns within one case."""
        if not self._path.is_file():
            return
        before = json.loads(self._path.read_text())
        ours, theirs = self._report["machine"], before["machine"]
        differing = [name for name in _OF_ONE_RUN if ours[name] != theirs[name]]
        differing += [name for name in ("picture", "limit_bytes") if self._report[name] != before[name]]
        if differing:
            raise ValueError(f"{self._path} was made with another {', '.join(differing)}; begin anew")
        self._report = before

    def has(self, case: Case) -> bool:
        return any((each["model"], each["size"]) == (case.model, case.size) for each in self._report["cases"])

    def add(self, case: Case, results: dict[str, Any], **more: Any) -> None:
        said = {"model": case.model, "size": case.size, "width": case.width, "height": case.height}
        self._report["cases"].append({**said, **self._made_by, **more, "results": results})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._report, indent=1) + "\n")
        part.replace(self._path)


def moment() -> dict[str, Any]:
    """When a case begins, and how busy the machine is then."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"time": now, "load": round(os.getloadavg()[0], 2)}
