"""What name servers answer is believed only where it leads outside."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from upscaled_server.errors import FetchFailed, UrlRefused
from upscaled_server.intake.fetch.allowed import Opening, Openings
from upscaled_server.intake.fetch.guard import Guard
from upscaled_server.intake.fetch.resolver import SystemResolver

WEB = frozenset({80, 443})


class Answers:
    """Name servers that always say the same."""

    def __init__(self, answer: Sequence[str] | Exception) -> None:
        self._answer = answer

    async def resolve(self, _host: str, _port: int) -> Sequence[str]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def close(self) -> None:
        pass


def guard(answer: Sequence[str] | Exception, *openings: str) -> Guard:
    opened = Openings(map(Opening.parse, openings), WEB)
    return Guard(Answers(answer), opened, field="source.url", schemes=frozenset({"http", "https"}))


async def test_all_public_addresses_are_given() -> None:
    found = await guard(["8.8.8.8", "2606:4700::1"]).addresses("a.test", 443)
    assert [str(each) for each in found] == ["8.8.8.8", "2606:4700::1"]


@pytest.mark.parametrize(
    "answer",
    [[], ["127.0.0.1"], ["8.8.8.8", "fe80::1%eth0"], ["nonsense"], socket.gaierror(socket.EAI_NONAME, "")],
)
async def test_everything_else_is_refused(answer: Sequence[str] | Exception) -> None:
    with pytest.raises(UrlRefused, match="does not lead to a public address"):
        await guard(answer).addresses("a.test", 443)


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_AGAIN, ""), OSError("down")])
async def test_name_servers_that_fail_are_a_failure_and_no_refusal(answer: Exception) -> None:
    with pytest.raises(FetchFailed):
        await guard(answer).addresses("a.test", 443)


async def test_a_public_address_is_refused_at_a_port_that_only_something_inside_has_open() -> None:
    some = guard(["8.8.8.8"], "inside.test:9000")
    some.check("http://a.test:9000/")  # where it leads is not known yet
    with pytest.raises(UrlRefused):
        await some.addresses("a.test", 9000)
    with pytest.raises(UrlRefused):
        some.check("http://8.8.8.8:9000/")


async def test_the_machines_own_resolver_knows_this_machine_and_not_what_is_not_there() -> None:
    resolver = SystemResolver()
    assert set(await resolver.resolve("localhost", 80)) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r".*"):
        await resolver.resolve("nowhere.invalid", 80)
    resolver.close()
