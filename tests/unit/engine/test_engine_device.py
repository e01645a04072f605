"""Choosing the device."""

from __future__ import annotations

import os

import pytest
import torch

from upscaled_server.engine.device import choose_device
from upscaled_server.engine.machine import usable_cores, usable_memory
from upscaled_server.errors import FailedPrecondition


def test_a_cpu_runs_on_ncnn_in_fp32() -> None:
    device = choose_device("cpu")
    assert (device.kind, device.backend, device.precision) == ("cpu", "ncnn", "fp32")
    assert device.parallel == usable_cores()
    assert 0 < device.budget_bytes < usable_memory()


def test_torch_can_be_asked_for() -> None:
    assert choose_device("cpu", "torch").backend == "torch"


def test_cores_and_memory_can_be_pinned() -> None:
    device = choose_device("cpu", parallel=3, budget_bytes=1 << 30)
    assert (device.parallel, device.budget_bytes) == (3, 1 << 30)


def test_no_more_cores_than_the_process_may_use() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_half_precision_is_not_for_cpus() -> None:
    with pytest.raises(FailedPrecondition, match="fp32"):
        choose_device("cpu", precision="fp16")


def test_cuda_is_refused_with_the_reason_where_there_is_none() -> None:
    if torch.cuda.is_available():
        assert choose_device("cuda").kind == "cuda"
        return
    with pytest.raises(FailedPrecondition, match="CUDA"):
        choose_device("cuda")


def test_cuda_does_not_run_on_ncnn() -> None:
    with pytest.raises(FailedPrecondition, match="torch"):
        choose_device("cuda", "ncnn")
