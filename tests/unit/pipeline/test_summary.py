"""What an answer says of how its pixels were made."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from upscaled_server.engine.provenance import Provenance, WeightsSource
from upscaled_server.pipeline.summary import _provenance
from upscaled_server.tiling.plan import RunPlan

_PLAN = RunPlan("bands", 16, 64, 2, 16, 32, 4, 1, 1, 1, 1000)
_MADE_BY = Provenance("m", "torch", "2", "fp16", "a card", WeightsSource("folder", "m.pth", "00", 1, True))


def _run(plan: RunPlan, precision: str) -> Any:
    provenance = replace(_MADE_BY, precision=precision)
    return SimpleNamespace(plan=plan, provenance=provenance, device=SimpleNamespace(kind="cuda"))


def test_it_names_what_was_used_last_where_that_changed_on_the_way() -> None:
    lower, second = replace(_PLAN, tile_height=16), replace(_PLAN, width=32, height=128)
    layout = cast("Any", SimpleNamespace(passes=(_PLAN, second)))
    # Two passes of the colours, then two of alpha, which end with them.
    runs = [_run(lower, "fp16"), _run(second, "bf16"), _run(_PLAN, "fp16"), _run(second, "bf16")]
    found = _provenance(layout, runs)
    assert found.precision == "bf16"
    assert [RunPlan.from_dict(each) for each in json.loads(found.execution)] == [lower, second]
