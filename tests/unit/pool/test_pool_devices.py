"""What there is to compute on, and how much of it we may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from upscaled_server.engine.machine import usable_cores, usable_memory
from upscaled_server.errors import FailedPrecondition
from upscaled_server.pool.devices import Found, find_devices, probe_cuda
from upscaled_server.pool.settings import PoolSettings

_CARDS: Found = [
    {"index": 0, "title": "One", "memory_bytes": 80 << 30, "capability": "9.0"},
    {"index": 1, "title": "Two", "memory_bytes": 40 << 30, "capability": "8.0"},
]


def test_auto_takes_every_card() -> None:
    devices = find_devices(PoolSettings(devices="auto"), lambda: _CARDS)

    assert [(device.name, device.title, device.kind) for device in devices] == [
        ("cuda:0", "One", "cuda"),
        ("cuda:1", "Two", "cuda"),
    ]
    assert devices[0].budget_bytes == (80 << 30) * 8 // 10


def test_auto_takes_the_cpu_where_there_is_no_card() -> None:
    (device,) = find_devices(PoolSettings(devices="auto", threads=3), list)

    assert (device.name, device.kind, device.cores) == ("cpu", "cpu", 3)
    assert 0 < device.run_budget_bytes < device.budget_bytes < device.memory_bytes


def test_named_cards_come_in_the_order_they_are_named_in() -> None:
    devices = find_devices(PoolSettings(devices="cuda:1,cuda:0"), lambda: _CARDS)

    assert [device.name for device in devices] == ["cuda:1", "cuda:0"]


def test_a_card_that_is_not_there_is_an_error_that_says_what_is() -> None:
    with pytest.raises(FailedPrecondition, match=r"cuda:7.*cpu, cuda:0, cuda:1"):
        find_devices(PoolSettings(devices="cuda:7"), lambda: _CARDS)


@pytest.mark.parametrize("devices", ["gpu", "cuda", "cpu,cuda:0", "cuda:0,cuda:0", ""])
def test_devices_that_are_no_devices_are_refused(devices: str) -> None:
    with pytest.raises(ValidationError, match="UPSCALED_DEVICES"):
        PoolSettings(devices=devices)


def test_asking_the_driver_never_fails() -> None:
    assert isinstance(probe_cuda(), list)


def _fake_proc(tmp_path: Path, cgroup: str, mounts: str) -> Path:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemFree: 5 kB\nMemTotal:  8388608 kB\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    (proc / "self" / "mountinfo").write_text(mounts)
    return proc


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.usefixtures("many_cores")
def test_cgroup_v2_limits_count_at_every_level(tmp_path: Path) -> None:
    point = tmp_path / "cg"
    _file(point / "pod" / "cpu.max", "300000 100000\n")
    _file(point / "pod" / "box" / "cpu.max", "max 100000\n")
    _file(point / "pod" / "memory.max", f"{4 << 30}\n")
    _file(point / "pod" / "box" / "memory.max", "max\n")
    proc = _fake_proc(tmp_path, "0::/pod/box\n", f"30 23 0:26 / {point} rw - cgroup2 cgroup2 rw\n")

    assert usable_cores(proc) == 3
    assert usable_memory(proc) == 4 << 30


@pytest.mark.usefixtures("many_cores")
def test_cgroup_v1_limits_count_inside_a_container_that_sees_the_path_of_its_host(tmp_path: Path) -> None:
    cpu, memory = tmp_path / "cpu", tmp_path / "memory"
    _file(cpu / "cpu.cfs_quota_us", "150000")
    _file(cpu / "cpu.cfs_period_us", "100000")
    _file(memory / "memory.limit_in_bytes", str(2 << 30))
    mounts = (
        f"31 30 0:27 /docker/abc {cpu} ro - cgroup cgroup rw,cpu,cpuacct\n"
        f"32 30 0:28 /docker/abc {memory} ro - cgroup cgroup rw,memory\n"
    )
    proc = _fake_proc(tmp_path, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n", mounts)

    assert usable_cores(proc) == 1  # 1.5: a second thread would be throttled
    assert usable_memory(proc) == 2 << 30


@pytest.mark.usefixtures("many_cores")
def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    _file(memory / "memory.limit_in_bytes", "9223372036854771712")
    proc = _fake_proc(tmp_path, "4:memory:/\n", f"32 30 0:28 / {memory} ro - cgroup cgroup rw,memory\n")

    assert usable_cores(proc) == 16
    assert usable_memory(proc) == 8 << 30
