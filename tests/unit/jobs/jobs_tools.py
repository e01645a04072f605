"""Jobs made by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from upscaled_server.access.caller import Priority
from upscaled_server.jobs import ids
from upscaled_server.jobs.job import Job, JobSource, Origin, State
from upscaled_server.pipeline.events import Done, Plan, Provenance, Stage
from upscaled_server.pipeline.request import Options

PLAN = Plan(
    input_width=2,
    input_height=3,
    output_width=8,
    output_height=12,
    bit_depth=8,
    channels=3,
    content_type="image/png",
    file_name="a.png",
    tile_count=0,
    tile_columns=0,
    tile_size=0,
    recomputed_share=0.0,
    estimated_seconds=0.5,
    queue_position=0,
    max_output_bytes=5000,
    estimated_credits=Decimal("0.25"),
)
DONE = Done(
    plan=PLAN,
    settings=Options(model="m", passes=1),
    seconds={Stage.INFER: 0.5},
    total_seconds=1.0,
    provenance=Provenance("m", "ncnn", "fp32", "cpu", "00" * 32, "package", "[]"),
    size_bytes=10,
    sha256="ab" * 32,
    warnings=("only the first frame was used",),
    credits_charged=Decimal("0.25"),
    credits_remaining=None,
)


def queued_job(caller: str = "anna", **changes: object) -> Job:
    job_id = ids.new_id()
    job = Job(
        id=job_id,
        caller=caller,
        source=JobSource(Origin.INLINE),
        options=Options(labels={"album": "7"}),
        priority=Priority.BATCH,
        created=ids.time_of(job_id),
        retention=3600.0,
    )
    return replace(job, **changes).recorded()  # type: ignore[arg-type]


def ended_job(caller: str = "anna", state: State = State.SUCCEEDED, **changes: object) -> Job:
    job = queued_job(caller, **changes).begun(2e9).ended_as(state, 2e9 + 1)
    return replace(job, done=DONE, plan=PLAN) if state is State.SUCCEEDED else job
