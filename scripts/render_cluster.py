"""The measured parts of `docs/cluster.md`, from the JSON of benchmarks and of chaos scenarios.

    python scripts/render_cluster.py [--check]

Reads `docs/benchmarks/cluster.json` and `docs/reliability/cluster_*.json`, and replaces what stands between a
part's two marks. A test checks that the page is what the JSON gives.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pages import REPO, with_parts, write_or_check

PAGE = REPO / "docs" / "cluster.md"
MEASURED = REPO / "docs" / "benchmarks" / "cluster.json"
CHECKED = REPO / "docs" / "reliability"

SCENARIOS = ("cluster_jobs", "cluster_cut", "cluster_rolling")
_SERVERS = (100, 300, 1000)
_KEPT_HOURS = (1, 24)
_JOB_SECONDS = 1.0


def rendered(page: str) -> str:
    """The page with its generated parts anew."""
    found = json.loads(MEASURED.read_text())
    parts = {"checked": _checked(), "measured": _measured(found), "limits": _limits(found)}
    return with_parts(page, parts, "render_cluster.py")


def _checked() -> str:
    lines = []
    for name in SCENARIOS:
        path = CHECKED / f"{name}.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        figures = ", ".join(f"{_words(key)} {_number(value)}" for key, value in found["figures"].items())
        lines.append(
            f"- `{name}`: {found['what']}. Held: {found['held']} of {found['tried']}; {figures} "
            f"({found['machine']['cores']} cores, {found['when'][:10]})."
        )
        lines += [f"    - not held: {each}" for each in found["not_held"]]
    return "\n".join(lines)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _number(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _measured(found: dict[str, Any]) -> str:
    queue, feed, scaling = found["queue"], found["feed"], found["scaling"]
    machine = scaling["machine"]
    *first, last = (f"{found[part]['machine']['load']:.0f}" for part in ("queue", "feed", "scaling"))
    busy = f"{', '.join(first)} and {last}"
    alone = queue["one_job_at_a_time"]
    at_once = queue["32_jobs_at_once"]
    cpu = feed["cpu_microseconds_per_change"]
    one = scaling["1_replicas"]
    lines = [
        f"On {machine['cores']} cores ({machine['cpu']}), which servers, three nodes of NATS and S3 share "
        "([`cluster.json`](benchmarks/cluster.json), `make bench-cluster`). Devices are simulated: "
        f"each takes {scaling['device_seconds_per_job']:g} s for an image and no processor time; all else is "
        "real. The machine had other work too: its load averages were "
        f"{busy}.",
        "",
        "| servers | jobs a second | against one | of the devices' time used |",
        "| --: | --: | --: | --: |",
    ]
    for replicas in (1, 2, 8):
        each = scaling[f"{replicas}_replicas"]
        ratio = each["jobs_per_second"] / one["jobs_per_second"]
        lines.append(
            f"| {replicas} | {each['jobs_per_second']:.2f} | {ratio:.2f} | "
            f"{each['share_of_the_devices_used']:.1%} |"
        )
    eight = scaling["8_replicas"]
    lines += [
        "",
        f"- A job waits {alone['all']['p50_ms']:.1f} ms for the queue (95th percentile "
        f"{alone['all']['p95_ms']:.1f}): {alone['publish']['p50_ms']:.1f} to be put in, "
        f"{alone['until_taken']['p50_ms']:.1f} until another server has it, {alone['done']['p50_ms']:.1f} to "
        f"be taken out. Many at once: {at_once['jobs_per_second']:.0f} jobs a second.",
        f"- A job makes {eight['changes_of_state_per_job']:g} changes of the state and asks S3 "
        f"{eight['requests_to_s3_per_job']:g} times. What is kept of it is {eight['entries_kept_per_job']:g} "
        f"entries and {eight['bytes_of_state_kept_per_job']} bytes.",
        f"- Processor time of a job, beside the network: {eight['cpu_ms_per_job']['servers']:.0f} ms in the "
        f"server, {eight['cpu_ms_per_job']['their_workers_and_codecs']:.0f} ms in its workers and decoders, "
        f"{eight['cpu_ms_per_job']['nats_nodes']:.0f} ms in all nodes of NATS.",
        f"- A change costs {cpu['of_all_nodes_with_1_listening_server']:.0f} µs in all nodes of NATS "
        f"together, {cpu['of_all_nodes_for_each_further_one']:.1f} µs more for each further server that is "
        f"told, and {cpu['of_a_listening_server']:.0f} µs in each server. {_fastest(feed):.0f} changes a "
        "second were made.",
        f"- A key takes {feed['bytes_per_key_in_a_server']} bytes in the memory of each server.",
    ]
    return "\n".join(lines)


def _fastest(feed: dict[str, Any]) -> float:
    return float(feed["changes_per_second_with_1_listening_server"])


def _limits(found: dict[str, Any]) -> str:
    feed, job = found["feed"], found["scaling"]["8_replicas"]
    cpu = feed["cpu_microseconds_per_change"]
    rows: list[tuple[str, list[str]]] = []
    per_second = [servers / _JOB_SECONDS for servers in _SERVERS]
    changes = [rate * job["changes_of_state_per_job"] for rate in per_second]
    rows.append(("jobs a second", [f"{rate:,.0f}" for rate in per_second]))
    rows.append(
        (
            f"changes of the state a second; measured at most: {_fastest(feed):,.0f}",
            [f"{n:,.0f}" for n in changes],
        )
    )
    sent = [n * servers for n, servers in zip(changes, _SERVERS, strict=True)]
    rows.append(("messages a second that NATS sends for them", [f"{n:,.0f}" for n in sent]))
    nodes = [
        (n * cpu["of_all_nodes_with_1_listening_server"] + copies * cpu["of_all_nodes_for_each_further_one"])
        / 1e6
        for n, copies in zip(changes, sent, strict=True)
    ]
    rows.append(("cores of all nodes of NATS", [f"{n:.1f}" for n in nodes]))
    listening = [n * cpu["of_a_listening_server"] / 1e6 for n in changes]
    rows.append(("of a core of each server, for hearing of changes", [f"{n:.1%}" for n in listening]))
    for hours in _KEPT_HOURS:
        kept = [rate * hours * 3600 for rate in per_second]
        kept_for = "an hour" if hours == 1 else "a day" if hours == 24 else f"{hours} hours"
        state = [n * job["bytes_of_state_kept_per_job"] for n in kept]
        memory = [n * job["entries_kept_per_job"] * feed["bytes_per_key_in_a_server"] for n in kept]
        rows.append(
            (f"kept for {kept_for}: state on each node of NATS", [f"{n / 2**30:,.1f} GiB" for n in state])
        )
        rows.append(
            (f"kept for {kept_for}: memory of each server", [f"{n / 2**30:,.1f} GiB" for n in memory])
        )
    head = [
        "| | " + " | ".join(f"{servers:,} servers" for servers in _SERVERS) + " |",
        "| --- |" + " --: |" * len(_SERVERS),
    ]
    return "\n".join([*head, *(f"| {name} | {' | '.join(values)} |" for name, values in rows)])


def main() -> int:
    return write_or_check(__doc__, {PAGE: rendered(PAGE.read_text())})


if __name__ == "__main__":
    sys.exit(main())
