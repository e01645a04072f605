"""Messages of `Admin`: masks, pages, durations."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from upscaled.v1 import admin_pb2, options_pb2
from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.records import CallerRecord
from upscaled_server.api.access_interceptor import _address
from upscaled_server.api.admin_translate import (
    from_caller,
    page_of,
    to_caller,
    to_changed,
    to_description,
    to_seconds,
)
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import InvalidField, NotFound


def _resolve(model: str) -> str:
    return Catalogue().resolve(model).name


ANNA = Caller("anna", weight=2, max_concurrent=5, allowed_models=("real-esrgan-x4-v3",), monthly_credits=3)


def _update(*paths: str, **fields: object) -> Caller:
    message = admin_pb2.UpdateCallerRequest(caller=admin_pb2.Caller(name="anna", **fields))  # type: ignore[arg-type]
    message.update_mask.paths.extend(paths)
    return to_changed(ANNA, message, _resolve)


def test_a_caller_comes_back_as_it_was_sent() -> None:
    sent = from_caller(CallerRecord(ANNA, created=5.0, version=7))
    assert to_caller(sent, _resolve) == ANNA
    assert sent.etag


def test_a_caller_with_nothing_but_a_name_has_the_defaults() -> None:
    assert to_caller(admin_pb2.Caller(name="ben"), _resolve) == Caller("ben")


def test_models_are_kept_by_their_catalogue_name_and_unknown_ones_refused() -> None:
    message = admin_pb2.Caller(name="ben", allowed_models=["realesr-general-x4v3", "real-esrgan-x4-v3"])
    assert to_caller(message, _resolve).allowed_models == ("real-esrgan-x4-v3",)
    with pytest.raises(NotFound, match="nosuch"):
        to_caller(admin_pb2.Caller(name="ben", allowed_models=["nosuch"]), _resolve)


def test_without_a_mask_what_is_set_changes_and_nothing_else() -> None:
    assert _update(weight=4) == Caller("anna", 4, Priority.INTERACTIVE, 5, **_rest())


def _rest() -> dict[str, object]:
    return {"allowed_models": ANNA.allowed_models, "monthly_credits": ANNA.monthly_credits}


def test_a_mask_sets_fields_back_to_their_defaults() -> None:
    changed = _update("max_concurrent", "monthly_credits", "allowed_models", "weight")
    assert changed == Caller("anna")


def test_a_star_replaces_everything() -> None:
    assert _update("*", max_priority=options_pb2.PRIORITY_BATCH) == Caller(
        "anna", max_priority=Priority.BATCH
    )


@pytest.mark.parametrize("path", ["name", "etag", "nosuch", ""])
def test_a_mask_names_only_what_can_change(path: str) -> None:
    with pytest.raises(InvalidField, match="update_mask"):
        _update(path)


@given(st.lists(st.integers(0, 500), unique=True), st.integers(1, 50))
def test_pages_join_to_the_whole_while_items_come_and_go(numbers: list[int], size: int) -> None:
    items = sorted(f"{number:03d}" for number in numbers)
    found: list[str] = []
    token = ""
    while True:
        page, token = page_of(items, str, size=size, token=token)
        found += page
        if not token:
            break
        items = items[1:]  # one that was sent already is deleted meanwhile
    assert found == sorted(f"{number:03d}" for number in numbers)


@pytest.mark.parametrize(
    ("size", "token"), [(-1, ""), (1001, ""), (0, "not a token"), (0, "é"), (0, "gA=="), (0, "A" * 260)]
)
def test_a_page_that_cannot_be_meant_is_refused(size: int, token: str) -> None:
    with pytest.raises(InvalidField, match=r"page_size|page_token"):
        page_of(["a"], str, size=size, token=token)


def test_durations_and_descriptions_have_bounds() -> None:
    assert to_seconds("overlap", Duration(seconds=1, nanos=500_000_000), low=0, high=10) == 1.5
    with pytest.raises(InvalidField, match="overlap: is out of range"):
        to_seconds("overlap", Duration(seconds=11), low=0, high=10)
    with pytest.raises(InvalidField, match="overlap"):
        to_seconds("overlap", Duration(seconds=-1), low=0, high=10)
    for nanos in (-1, -(2**31), 1_000_000_000, 2**31 - 1):
        with pytest.raises(InvalidField, match=r"overlap\.nanos"):
            to_seconds("overlap", Duration(seconds=1, nanos=nanos), low=0, high=10)
    assert to_description("für die Nacht") == "für die Nacht"
    for text in ("x" * 101, "a\nb", "\x1b[31m"):
        with pytest.raises(InvalidField, match="description"):
            to_description(text)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::/64"),
        ("unix:", "unix"),
        ("unix:/run/x.sock", "unix"),
        ("", ""),
    ],
)
def test_wrong_keys_are_counted_by_address_or_network(peer: str, address: str) -> None:
    assert _address(peer) == address
