"""The protocol of resumable uploads against a model of it, by steps of clients in any order.

Whatever is asked, in whatever order: the status tells the bytes that are there, the file read back is the one
that was written, refusals are the contract's, and what a caller stores is counted as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.fuzz.record import Found
from tests.unit.intake.stored_tools import ANNA, BEN, Kept, keeping, keeping_twice
from upscaled_server.errors import (
    AlreadyExists,
    DataLoss,
    DomainError,
    FailedPrecondition,
    InvalidField,
    NotFound,
    OutOfRange,
)
from upscaled_server.intake.stored_quota import Quotas

_STEPS = 30
# What is written is not to outlive the machine, and a disk's syncs would be most of the time.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


class _CutError(Exception):
    """The connection is gone."""


@dataclass(slots=True)
class _Expected:
    """What an input must be: `data` is what the caller wants to bring, `committed` bytes of it are there."""

    data: bytes
    announced: int
    sha256: bytes
    committed: int = 0
    complete: bool = False

    def is_lost(self, length: int) -> bool:
        """Whether a file of that many bytes is not the one that was announced."""
        return bool(self.sha256) and hashlib.sha256(self.data[:length]).digest() != self.sha256


class UploadMachine(RuleBasedStateMachine):
    """One run: a database and a folder of its own, gone afterwards."""

    steps: ClassVar[int] = 0

    async def open_servers(self, folder: Path) -> list[Kept]:
        return [await self._stack.enter_async_context(keeping(folder))]

    async def stored_bytes(self) -> int:
        return await self._kept.files.stored_bytes(ANNA.name)

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="upscaled-fuzz-", dir=_FOLDER))
        self._servers = cycle(self._runner.run(self.open_servers(Path(folder))))
        self._inputs: dict[str, _Expected] = {}
        self._requests = 0

    @property
    def _kept(self) -> Kept:
        """Each call goes to another server than the one before."""
        return next(self._servers)

    def teardown(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    @rule(
        size=st.integers(1, 300),
        announces=st.booleans(),
        with_sha256=st.booleans(),
        wrong_sha256=st.sampled_from([False, False, True]),
    )
    def create(self, size: int, announces: bool, with_sha256: bool, wrong_sha256: bool) -> None:
        data = hashlib.shake_128(str(len(self._inputs)).encode()).digest(size)
        sha256 = hashlib.sha256(b"other" if wrong_sha256 else data).digest() if with_sha256 else b""
        announced = size if announces else 0
        made = self._runner.run(self._kept.files.create_input(ANNA, size_bytes=announced, sha256=sha256))
        self._inputs[made.id] = _Expected(data, announced, sha256)

    @rule(size=st.integers(1, 3), other=st.booleans())
    def create_twice(self, size: int, other: bool) -> None:
        self._requests += 1
        name = f"request-{self._requests}"
        made = self._runner.run(self._kept.files.create_input(ANNA, request_id=name, size_bytes=size))
        self._inputs[made.id] = _Expected(bytes(range(size)), size, b"")
        again = self._kept.files.create_input(ANNA, request_id=name, size_bytes=size + other)
        try:
            assert self._runner.run(again).id == made.id
            assert not other
        except AlreadyExists:
            assert other

    @rule(
        number=st.integers(0, 100),
        where=st.sampled_from(["resume", "resume", "overlap", "anywhere"]),
        share=st.integers(0, 100),
        to_the_end=st.booleans(),
        chunk=st.sampled_from([7, 50, 1000]),
        finish=st.booleans(),
        cut=st.booleans(),
    )
    def write(
        self, number: int, where: str, share: int, to_the_end: bool, chunk: int, finish: bool, cut: bool
    ) -> None:
        """`share` in percent: of what is committed for an overlap, of the file for the end."""
        found = self._pick(number)
        if found is None:
            return
        input_id, expected = found
        size = len(expected.data)
        offsets = {
            "resume": expected.committed,
            "overlap": expected.committed * share // 100,
            "anywhere": size * share // 50 - 3,
        }
        offset = offsets[where]
        end = size if to_the_end else max(0, offset) + (size - max(0, offset)) * share // 100
        sent = expected.data[max(0, offset) : end]
        before = expected.committed
        outcome = self._do_write(input_id, offset, sent, chunk, finish=finish, cut=cut)
        self._check_write(expected, offset, sent, outcome, finish=finish and bool(sent), cut=cut)
        if isinstance(outcome, OutOfRange):
            assert offset > before

    def _do_write(
        self, input_id: str, offset: int, data: bytes, size: int, *, finish: bool, cut: bool
    ) -> Exception | None:
        async def pieces() -> AsyncIterator[tuple[bytes, bool]]:
            for at in range(0, len(data), size):
                last = at + size >= len(data)
                yield data[at : at + size], finish and last and not cut
            if cut:
                raise _CutError

        try:
            self._runner.run(self._kept.files.write_input(ANNA, input_id, offset, pieces()))
        except (DomainError, _CutError) as error:
            return error
        return None

    def _check_write(
        self,
        expected: _Expected,
        offset: int,
        sent: bytes,
        outcome: Exception | None,
        *,
        finish: bool,
        cut: bool,
    ) -> None:
        if expected.complete:
            assert isinstance(outcome, InvalidField if offset < 0 else FailedPrecondition), outcome
            return
        if offset < 0:
            assert isinstance(outcome, InvalidField), outcome
            return
        if offset > expected.committed:
            assert isinstance(outcome, OutOfRange), outcome
            return
        reached = max(expected.committed, offset + len(sent))
        ends = finish and not cut
        whole = bool(expected.announced) and reached == expected.announced
        if ends and offset + len(sent) < expected.committed:
            assert isinstance(outcome, InvalidField), outcome  # it ends before what is there
        elif cut:
            assert isinstance(outcome, _CutError), outcome
            expected.committed = reached
        elif ends and expected.announced and not whole:
            assert isinstance(outcome, InvalidField), outcome
            expected.committed = reached
        elif (ends or whole) and expected.is_lost(reached):
            assert isinstance(outcome, DataLoss), outcome
            expected.committed = 0
        else:
            assert outcome is None, outcome
            expected.committed = reached
            if ends or whole:
                self._completes(expected, reached)

    def _completes(self, expected: _Expected, reached: int) -> None:
        expected.complete, expected.data = True, expected.data[:reached]

    @rule(number=st.integers(0, 100))
    def delete(self, number: int) -> None:
        found = self._pick(number)
        if found is not None:
            self._runner.run(self._kept.files.delete_input(found[0]))
            del self._inputs[found[0]]
            self._must_be_unknown(ANNA.name, found[0])

    @rule(number=st.integers(0, 100))
    def ask_as_another_caller(self, number: int) -> None:
        found = self._pick(number)
        if found is not None:
            self._must_be_unknown(BEN.name, found[0])

    @rule(name=st.text(max_size=40))
    def ask_for_what_is_not_there(self, name: str) -> None:
        self._must_be_unknown(ANNA.name, name)

    @invariant()
    def every_status_is_as_expected(self) -> None:
        UploadMachine.steps += 1
        for input_id, expected in self._inputs.items():
            self._check_status(input_id, expected)
        stored = self._runner.run(self.stored_bytes())
        assert stored == sum(expected.committed for expected in self._inputs.values())

    def _check_status(self, input_id: str, expected: _Expected) -> None:
        status = self._runner.run(self._kept.files.write_status(ANNA.name, input_id))
        if expected.announced and expected.committed == expected.announced and not expected.complete:
            # A cut call brought the last byte: who asks next completes it, or hears that it was another file.
            if expected.is_lost(expected.committed):
                expected.committed = 0
            else:
                self._completes(expected, expected.committed)
        assert (status.committed_bytes, status.complete) == (expected.committed, expected.complete)
        if expected.complete:
            assert status.sha256 == hashlib.sha256(expected.data).digest()
            assert self._runner.run(self._read(input_id)) == expected.data

    async def _read(self, input_id: str) -> bytes:
        record = await self._kept.files.input(ANNA.name, input_id)
        return b"".join([piece async for piece in self._kept.files.read_input(record)])

    def _must_be_unknown(self, caller: str, input_id: str) -> None:
        try:
            self._runner.run(self._kept.files.write_status(caller, input_id))
        except NotFound:
            return
        raise AssertionError(f"{input_id!r} is known to {caller}")

    def _pick(self, number: int) -> tuple[str, _Expected] | None:
        items = list(self._inputs.items())
        return items[number % len(items)] if items else None


class SharedUploadMachine(UploadMachine):
    """Two servers that know of each other only what is written down."""

    async def open_servers(self, folder: Path) -> list[Kept]:
        pair = await self._stack.enter_async_context(keeping_twice(folder))
        return [pair.one, pair.other]

    async def stored_bytes(self) -> int:
        # As written down: what the other server wrote comes into a server's sums later.
        return await Quotas(self._kept.store, 1000).stored_bytes(ANNA.name)


def machine_settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def fuzz(seconds: float, seed: int, kept: Path) -> Found:
    """`kept`: the folder for what hypothesis says of a finding."""
    found, began, rounds = Found("uploads"), time.monotonic(), 0
    UploadMachine.steps = 0
    while time.monotonic() - began < seconds:
        kind = (UploadMachine, SharedUploadMachine)[rounds % 2]
        machine = seeded(seed * 1_000_003 + rounds)(kind)
        rounds += 1
        try:
            run_state_machine_as_test(machine, settings=machine_settings(3))
        except Exception as error:
            kept.mkdir(parents=True, exist_ok=True)
            notes = "\n".join([repr(error), *getattr(error, "__notes__", ())])
            (kept / f"uploads-{seed}-{rounds}.txt").write_text(notes)
            found.note(f"{error!r} (uploads-{seed}-{rounds}.txt)")
            break
    found.executions, found.seconds = UploadMachine.steps, time.monotonic() - began
    return found
