"""What lies in the queue, as a message and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import InvalidInput
from upscaled_server.state.nats.work.item import Item, headers_of, item_of
from upscaled_server.state.nats.work.lane import Lane


@given(
    owner=st.text(max_size=100),
    urgent=st.booleans(),
    cost=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    data=st.binary(max_size=100),
)
def test_an_item_comes_back_as_it_went(owner: str, urgent: bool, cost: float, data: bytes) -> None:
    item = Item(id="01J-x_y.z=", owner=owner, urgent=urgent, cost=cost, data=data)
    headers = headers_of(item)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert item_of(Lane(urgent, 3), 17, headers, data) == item


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"Nats-Msg-Id": "a b", "Upscaled-Cost": "much"},
        {"Nats-Msg-Id": "", "Upscaled-Cost": "-1", "Upscaled-Owner": ""},
        {"Upscaled-Cost": "nan"},
        {"Upscaled-Cost": "inf"},
    ],
)
def test_a_message_of_somebody_else_is_an_item_all_the_same(headers: dict[str, str] | None) -> None:
    item = item_of(Lane(True, 0), 17, headers, b"?")
    assert item == Item(id="message-17", owner="", urgent=True, cost=1.0, data=b"?")


def test_a_message_of_somebody_else_may_be_larger_than_an_item() -> None:
    assert len(item_of(Lane(True, 0), 17, None, bytes(1 << 20)).data) == 512 << 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "a\r\nb"),
        ("id", "x" * 257),
        ("cost", 0.0),
        ("cost", -1.0),
        ("cost", float("nan")),
        ("cost", float("inf")),
        ("owner", "x" * 513),
        ("data", bytes((512 << 10) + 1)),
    ],
)
def test_what_no_queue_could_keep_is_refused(field: str, value: object) -> None:
    fields: dict[str, object] = {"id": "a", "owner": "", "urgent": True, "cost": 1.0, field: value}
    with pytest.raises(InvalidInput):
        Item(**fields)  # type: ignore[arg-type]
