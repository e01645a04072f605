"""Protobuf messages that are valid in form and absurd in content, and ones that are no longer valid."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz import seeds
from tests.fuzz.mutation import mutated

_DEEPEST = 6
_INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**32,
    2**63 - 1,
    -(2**63),
    2**64 - 32,
    2**64 - 1,
)
_FLOATS = (0.0, -0.0, 1.0, 1.5, 4.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"), 2.0**63)
_TEXTS = (
    "",
    "x",
    "../../etc/passwd",
    "a/../b",
    "\0",
    "a\r\nFORGED-41: yes",
    "\u202egnp.exe",
    "\U0001f600" * 40,
    "%00%0a",
    "A" * 129,
    "A" * 70_000,
    "real-esrgan-animevideo-v3",
    "realesr-animevideov3",
    "http://127.0.0.1/",
    "http://[::1]:80/a",
    "file:///etc/passwd",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "size_bytes,monthly_credits",
    "*",
    "state = FAILED",
    "9" * 400,
)
_NUMBERS_OF_TYPES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


class Messages:
    """Makes messages of any type. `ids`: texts that stand for something on the server, added as they become
    known."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._images = seeds.made()
        self._share = 0.7
        self.ids: list[str] = []

    def bytes_of(self, kind: Descriptor) -> bytes:
        """One message, serialised; in one of three cases changed afterwards."""
        # With most fields set, nothing would come past the first refusal.
        self._share = self._chance.choice((0.1, 0.25, 0.7))
        data = bytes(self.message(kind).SerializeToString())
        pick = self._chance.random()
        if pick < 0.15:
            return mutated(data, self._images, self._chance)
        if pick < 0.3:
            return data + self._unknown()
        if pick < 0.33:
            return self._chance.randbytes(self._chance.choice((1, 5, 100)))
        return data

    def message(self, kind: Descriptor, depth: int = 0) -> Any:
        made = GetMessageClass(kind)()
        for field in kind.fields:
            if depth > _DEEPEST or self._chance.random() > self._share_of(field):
                continue
            try:
                self._set(made, field, depth)
            except (ValueError, TypeError, OverflowError):
                made.ClearField(field.name)  # the runtime takes less than the wire does
        return made

    def _share_of(self, field: FieldDescriptor) -> float:
        """What is needed is mostly there: where an image comes from, and which thing a call is about."""
        needed = field.name in ("source", "image", "start", "chunk", "name") or field.name.endswith("_id")
        return 0.8 if needed else self._share

    def _set(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(self._chance.choice((0, 1, 2, 70))):
                getattr(made, field.name)[self._text()] = self._text()
        elif field.is_repeated:
            for _ in range(self._chance.choice((0, 1, 2, 20))):
                if field.message_type is not None:
                    getattr(made, field.name).add().CopyFrom(self.message(field.message_type, depth + 1))
                else:
                    getattr(made, field.name).append(self._scalar(field))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(made, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text()
        if field.type == FieldDescriptor.TYPE_BYTES:
            image = chance.choice(self._images)
            return chance.choice((image, image, b"", b"x", mutated(image, self._images, chance), bytes(32)))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        if field.type == FieldDescriptor.TYPE_ENUM and field.enum_type is not None:
            return chance.choice([value.number for value in field.enum_type.values] * 3 + [77, -1, 2**31 - 1])
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return chance.choice((*_FLOATS, chance.uniform(0.1, 8)))
        low, high = _NUMBERS_OF_TYPES[field.type]
        fitting = [value for value in _INTEGERS if low <= value <= high]
        return chance.choice([*fitting, chance.randrange(0, 300), chance.randrange(0, 300)])

    def _text(self) -> str:
        known = self.ids[-20:]
        if known and self._chance.random() < 0.4:
            return self._chance.choice(known)
        return self._chance.choice(_TEXTS)

    def _unknown(self) -> bytes:
        """Fields that no version of the contract has."""
        chance = self._chance
        varint = b"\xf8\xff\xff\xff\x0f" + b"\xff" * 9 + b"\x01"
        return chance.choice(
            (
                varint,
                varint * 5000,
                b"\xf8\x3f\x80",  # a number that does not end
                b"\xfa\x3f\xff\xff\xff\xff\x07",  # bytes longer than the message
                b"\xfb\x3f" * 200,  # groups in groups that do not end
                b"\xfb\x3f" * 90 + b"\xfc\x3f" * 90,
                b"\x0a\x80\x01" * 60,
                b"\x00",
            )
        )
