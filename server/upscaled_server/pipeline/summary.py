"""The last event of a request: what was done, with what, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from upscaled_server.pipeline.charging import Bill
from upscaled_server.pipeline.deliver import Delivery
from upscaled_server.pipeline.events import Done, Provenance
from upscaled_server.pipeline.layout import Layout
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pool.run import PoolRun


def done(
    layout: Layout,
    clock: StageClock,
    bill: Bill,
    *,
    runs: Sequence[PoolRun] = (),
    delivery: Delivery | None = None,
) -> Done:
    """The summary. Without runs and a delivery (`validate_only`) nothing was made; without a file
    (`omit_file`) there is no size and no hash."""
    provenance = _provenance(layout, runs) if runs else None
    file = None if layout.options.omit_file else delivery
    return Done(
        plan=layout.to_plan(0),
        settings=replace(
            layout.options,
            bit_depth=layout.bits,
            backend=layout.options.backend if provenance is None else provenance.backend,
            file_name=layout.file_name.rpartition(".")[0],
        ),
        seconds=clock.seconds,
        total_seconds=clock.total,
        provenance=provenance,
        size_bytes=None if file is None else file.size_bytes,
        sha256=None if file is None else file.sha256,
        warnings=layout.remarks,
        credits_charged=bill.charged,
        credits_remaining=bill.remaining,
    )


def _provenance(layout: Layout, runs: Sequence[PoolRun]) -> Provenance:
    # Those of the last pass end last, and so know the precision that was used last.
    made_by = runs[-1].provenance
    passes = runs[: len(layout.passes)]
    return Provenance(
        model=made_by.model,
        backend=made_by.backend,
        precision=made_by.precision,
        device=runs[0].device.kind,
        weights_sha256=made_by.weights.sha256,
        weights_source=made_by.weights.described,
        execution=json.dumps([run.plan.to_dict() for run in passes], separators=(",", ":")),
    )
