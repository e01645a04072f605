"""Changes that are heard twice, or in another order than they were made."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.state.nats.keys import Keys
from upscaled_server.state.nats.subjects import SCHEMA, SWEEP, Subjects

_CHANGES = st.lists(
    st.tuples(st.sampled_from(["a/1", "a/2", "a-/1", "b/1"]), st.integers(1, 50), st.booleans()),
    unique_by=lambda change: change[1],
    max_size=30,
)


@given(_CHANGES, st.randoms(use_true_random=False))
def test_the_last_change_of_each_key_counts(changes: list[tuple[str, int, bool]], chance: object) -> None:
    heard = [*changes, *changes]
    chance.shuffle(heard)  # type: ignore[attr-defined]
    keys, last = Keys(), {key: (version, deleted) for key, version, deleted in sorted(changes, key=_version)}
    for key, version, deleted in heard:
        keys.apply(key, version, deleted=deleted)
    present = {key: version for key, (version, deleted) in last.items() if not deleted}
    for prefix in ("a", "a-", "b"):
        expected = sorted((key, version) for key, version in present.items() if key.startswith(f"{prefix}/"))
        assert keys.page(prefix, "", 100, reverse=False) == expected
        assert keys.page(prefix, "", 100, reverse=True) == expected[::-1]
    assert {key: keys.version_of(key) for key in last} == {key: version for key, (version, _) in last.items()}
    assert keys.newest == max((version for version, _ in last.values()), default=0)
    gone = {key: version for key, (version, deleted) in last.items() if deleted}
    assert dict(keys.deletions(float("inf"))) == gone
    keys.forget_deletions(25)
    assert dict(keys.deletions(float("inf"))) == {key: each for key, each in gone.items() if each > 25}


def _version(change: tuple[str, int, bool]) -> int:
    return change[1]


async def test_who_waits_goes_on_at_its_message() -> None:
    keys = Keys()
    waiting = asyncio.create_task(keys.reached(5))
    await asyncio.sleep(0)
    keys.advance(4)
    await asyncio.sleep(0)
    assert not waiting.done()
    keys.advance(7)
    await waiting
    await keys.reached(5)
    given_up = asyncio.create_task(keys.reached(8))
    await asyncio.sleep(0)
    keys.give_up()
    await given_up


@given(st.lists(st.from_regex(r"[A-Za-z0-9_=-]{1,9}", fullmatch=True), min_size=1, max_size=5))
def test_a_key_and_its_subject_stand_for_each_other(parts: list[str]) -> None:
    subjects, key = Subjects("x-state"), "/".join(parts)
    subject = subjects.of(key)
    assert subjects.key(subject) == key
    assert not set(subject.removeprefix("$KV.x-state.")) & set("/*> ")
    assert subject not in (subjects.of(SCHEMA), subjects.of(SWEEP))
    assert [subjects.key(subjects.of(own)) for own in (SCHEMA, SWEEP)] == [SCHEMA, SWEEP]
