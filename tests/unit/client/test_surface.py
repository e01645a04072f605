"""The blocking client has the surface of the asynchronous one, and the thin base stays thin."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, get_args

import pytest

import upscaled

PAIRS = [
    (upscaled.AsyncClient, upscaled.Client),
    (upscaled.AsyncModels, upscaled.Models),
    (upscaled.AsyncJobs, upscaled.Jobs),
    (upscaled.AsyncJob, upscaled.Job),
    (upscaled.AsyncInputs, upscaled.Inputs),
    (upscaled.AsyncOutputs, upscaled.Outputs),
]
NAMES = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}


def methods(kind: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and (not name.startswith("_") or name in {*NAMES, *NAMES.values()})
    }


@pytest.mark.parametrize(("aio", "blocking"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_methods_and_parameters(aio: type, blocking: type) -> None:
    expected = {NAMES.get(name, name): member for name, member in methods(aio).items()}
    actual = methods(blocking)
    assert set(actual) == set(expected)
    for name, member in expected.items():
        ours, theirs = inspect.signature(actual[name]), inspect.signature(member)
        assert ours.parameters == theirs.parameters, name
        assert ours.return_annotation == theirs.return_annotation.replace("Async", ""), name


def test_both_clients_are_made_alike() -> None:
    assert inspect.signature(upscaled.Client) == inspect.signature(upscaled.AsyncClient)


def test_both_clients_have_the_same_parts() -> None:
    with upscaled.Client("127.0.0.1:1") as blocking:
        aio = upscaled.AsyncClient("127.0.0.1:1")
        for name in ("models", "jobs", "inputs", "outputs"):
            assert type(getattr(aio, name)).__name__ == f"Async{type(getattr(blocking, name)).__name__}"


def test_both_streams_can_be_left_in_the_same_ways() -> None:
    assert set(NAMES) <= set(vars(upscaled.AsyncStream))
    assert set(NAMES.values()) <= set(vars(upscaled.Stream))


def test_everything_exported_exists_and_is_sorted() -> None:
    assert all(hasattr(upscaled, name) for name in upscaled.__all__)
    assert len(set(upscaled.__all__)) == len(upscaled.__all__)


def test_importing_the_client_loads_nothing_heavy_and_no_server() -> None:
    code = (
        "import sys, upscaled; "
        "heavy = {'numpy', 'PIL', 'typer', 'rich', 'torch', 'ncnn', 'pydantic', 'upscaled_server'}; "
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_client_that_was_never_used_can_be_closed_twice() -> None:
    client = upscaled.Client("127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(upscaled.ClientClosedError):
        client.server_info()


def test_the_kinds_of_sources_can_be_put_into_annotations_at_run_time() -> None:
    assert type(None) in get_args(upscaled.ImageSource | None)
