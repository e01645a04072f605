"""Pages of jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jobs_tools import ended_job, queued_job

from upscaled_server.errors import InvalidField
from upscaled_server.jobs import listing
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.listing import Filters, Listing
from upscaled_server.state.store import Store
from upscaled_server.state.ulid import first_ulid


async def _stored(store: Store, count: int, **changes: object) -> list[str]:
    """Ids, the newest first."""
    made = [await Book(store).create(queued_job(**changes)) for _ in range(count)]  # type: ignore[arg-type]
    return [job.id for job in reversed(made)]


async def _all_pages(pages: Listing, filters: Filters, size: int) -> list[list[Job]]:
    found, token = [], ""
    while True:
        page = await pages.page("anna", filters, size=size, token=token)
        found.append(list(page.jobs))
        if not (token := page.token):
            return found


async def test_pages_hold_every_job_once_the_newest_first(store: Store) -> None:
    made = await _stored(store, 7)
    await _stored(store, 2, caller="ben")
    found = await _all_pages(Listing(store), Filters(), 3)
    assert [job.id for page in found for job in page] == made
    assert max(map(len, found)) == 3


async def test_a_page_stays_right_while_jobs_come(store: Store) -> None:
    made = await _stored(store, 4)
    pages = Listing(store)
    first = await pages.page("anna", Filters(), size=2, token="")
    await _stored(store, 3)
    second = await pages.page("anna", Filters(), size=2, token=first.token)
    assert [job.id for job in (*first.jobs, *second.jobs)] == made


async def test_filters_choose_by_state_and_label(store: Store) -> None:
    book = Book(store)
    ended = await book.create(ended_job())
    waiting = await book.create(queued_job())
    pages = Listing(store)

    async def found(filters: Filters) -> list[str]:
        return [job.id for page in await _all_pages(pages, filters, 10) for job in page]

    assert await found(Filters(states=frozenset({State.SUCCEEDED}))) == [ended.id]
    assert await found(Filters(labels=(("album", "7"),))) == [waiting.id, ended.id]
    assert await found(Filters(labels=(("album", "8"),))) == []


async def test_times_are_those_of_the_ids(store: Store) -> None:
    made = [replace(queued_job(), id=first_ulid((1_000_000 + second) * 1000)) for second in range(5)]
    jobs = [await Book(store).create(job) for job in made]
    middle = Filters(after=1_000_001.0, before=1_000_004.0)
    found = await _all_pages(Listing(store), middle, 2)
    assert [job.id for page in found for job in page] == [jobs[3].id, jobs[2].id, jobs[1].id]


async def test_a_page_examines_a_bounded_number_of_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_EXAMINED", 10)
    monkeypatch.setattr(listing, "_AT_ONCE", 4)
    await _stored(store, 25)
    found = await _all_pages(Listing(store), Filters(labels=(("album", "8"),)), 5)
    assert found == [[], [], []]


async def test_a_page_of_large_jobs_is_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MAX_PAGE_BYTES", 1000)
    made = await _stored(store, 12)
    found = await _all_pages(Listing(store), Filters(), 1000)
    assert [job.id for page in found for job in page] == made
    assert len(found) > 1


@pytest.mark.parametrize("token", ["x", "é", "AAAA", "0" * 56])
async def test_a_malformed_token_is_refused(store: Store, token: str) -> None:
    with pytest.raises(InvalidField, match="page_token"):
        await Listing(store).page("anna", Filters(), size=1, token=token)


async def test_a_token_belongs_to_one_caller_and_its_filters(store: Store) -> None:
    await _stored(store, 3)
    pages = Listing(store)
    token = (await pages.page("anna", Filters(), size=1, token="")).token
    for caller, filters in (("ben", Filters()), ("anna", Filters(states=frozenset({State.QUEUED})))):
        with pytest.raises(InvalidField, match="page_token"):
            await pages.page(caller, filters, size=1, token=token)


@pytest.mark.parametrize("size", [-1, 1001])
async def test_a_page_size_out_of_range_is_refused(store: Store, size: int) -> None:
    with pytest.raises(InvalidField, match="page_size"):
        await Listing(store).page("anna", Filters(), size=size, token="")
