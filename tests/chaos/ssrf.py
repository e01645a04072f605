"""URLs that lead inside, given to a whole server as sources and as receivers of callbacks.

python -m tests.chaos.ssrf [--short] [--out bench-results/reliability/ssrf.json]

It runs in a network in which this machine has every address: the public server answers at its own, a canary
that serves an image and accepts callbacks at all others, and a name server gives the names of the cases.
Every connection that the server tries is seen. It takes root.
"""

from __future__ import annotations

import asyncio
import csv
import io
import ipaddress
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.integration.fetch.dns_stub import PUBLIC_ADDRESS, NameServer
from tests.integration.fetch.origin import OriginServer, Reader, Writer, write
from tests.reliability import network
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled import Client, UpscaledError
from upscaled.v1 import jobs_pb2, jobs_pb2_grpc, options_pb2

_CASES = REPO.parent / "shared" / "corpus" / "ssrf_cases.tsv"
_PUBLIC = "http://public.test"
_PORTS = (22, 80, 443, 6379, 11211)
_NAME_SERVER = "127.0.0.53"
_WAIT_SECONDS = 60.0
# The origin's: what is 8 pixels wide came from the canary.
_SECRET_SIDE = 8


class Internet(OriginServer):
    """The public server, and the canary everywhere else. `secrets` are the addresses that gave one away."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: Counter[str] = Counter()
        self._names = NameServer()
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self._names, local_addr=(_NAME_SERVER, 53))
        for port in _PORTS:
            self._servers.append(await asyncio.start_server(self._came, ["0.0.0.0", "::"], port))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self._names.stop()

    async def _came(self, reader: Reader, writer: Writer) -> None:
        address, port = writer.get_extra_info("sockname")[:2]
        if address.removeprefix("::ffff:") == PUBLIC_ADDRESS and port == 80:
            await self._serve(reader, writer)
            return
        self.secrets[f"{address}:{port}"] += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            write(writer, 200, picture(_SECRET_SIDE, _SECRET_SIDE), Content_Type="image/jpeg")
            await writer.drain()
        writer.close()


@contextmanager
def internet() -> Iterator[Internet]:
    loop, world = asyncio.new_event_loop(), Internet()
    thread = threading.Thread(target=loop.run_forever, name="internet")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(world.open(), loop).result(10)
        yield world
        asyncio.run_coroutine_threadsafe(world.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def cases() -> list[dict[str, str]]:
    with _CASES.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [{**row, "url": row["url"].replace("{PUBLIC}", _PUBLIC)} for row in rows]


def source_outcome(client: Client, url: str) -> str:
    """`allow`, `block`, or what else came."""
    try:
        result = client.upscale(url=url, model=FAST)
    except UpscaledError as error:
        refused = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
        return "block" if error.code in refused else repr(error)
    with Image.open(io.BytesIO(result.data)) as image:
        return "allow" if image.width < _SECRET_SIDE else "the canary's image came back"


def callback_outcome(stub: jobs_pb2_grpc.JobsStub, url: str) -> str:
    """`delivered`, `refused` before the job was made, or `failed`."""
    request = jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(16, 12)),
        options=options_pb2.UpscaleOptions(model=FAST),
        callback_url=url,
    )
    try:
        job_id = stub.CreateJob(request, timeout=_WAIT_SECONDS).id
    except grpc.RpcError as error:
        return "refused" if error.code() is grpc.StatusCode.INVALID_ARGUMENT else str(error.code())
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        told = stub.GetJob(jobs_pb2.GetJobRequest(job_id=job_id), timeout=_WAIT_SECONDS).callback
        if told.state == jobs_pb2.CALLBACK_STATE_DELIVERED:
            return "delivered"
        if told.attempts:
            return "failed"
        time.sleep(0.02)
    return "nothing was tried"


def _may_deliver(case: dict[str, str]) -> bool:
    """A receiver may be anywhere in public, and answer what it likes; a redirect is a failure."""
    return case["url"].startswith(_PUBLIC) and "/r/" not in case["url"]


def _inside(wire: network.Wire, server: RunningServer) -> list[str]:
    """Where connections went that are neither to the public server nor to this scenario's own."""
    own = int(server.address.rpartition(":")[2])
    found = []
    for address, port in sorted(wire.dialled):
        plain = ipaddress.ip_address(address)
        if (address, port) == (PUBLIC_ADDRESS, 80) or (plain.is_loopback and port == own):
            continue
        found.append(f"{address}:{port}")
    return found


def _sockets_work() -> None:
    """That the wire and the canary see what they are there for."""
    for family, address in ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fc00::1")):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            sock.connect((address, 80))


def _run(record: Record, world: Internet) -> None:
    with network.Wire() as wire:
        _sockets_work()
        time.sleep(0.5)
        if not {("10.0.0.1", 80), ("fc00::1", 80)} <= wire.dialled or len(world.secrets) != 2:
            raise RuntimeError("the network does not see connections")
    world.secrets.clear()
    with (
        running_server(UPSCALED_CALLBACK_HTTP="true") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        control, stub = Control(server, stores=True), jobs_pb2_grpc.JobsStub(channel)
        outcomes: Counter[str] = Counter()
        with network.Wire() as wire, Client(server.address, timeout=_WAIT_SECONDS, retries=0) as client:
            for case in cases():
                outcome = source_outcome(client, case["url"])
                _note(record, outcomes, "source", case, outcome, outcome == case["expect"])
            for case in cases():
                outcome = callback_outcome(stub, case["url"])
                right = ("delivered",) if _may_deliver(case) else ("refused", "failed")
                _note(record, outcomes, "callback", case, outcome, outcome in right)
            time.sleep(0.5)
        record.not_held += [f"the server dialled {each}" for each in _inside(wire, server)]
        record.not_held += [f"the canary at {each} was reached" for each in sorted(world.secrets)]
        record.not_held += control.problems(server)
    record.figures = {
        **{name.replace(" ", "_"): count for name, count in sorted(outcomes.items())},
        "requests_to_the_public_server": len(world.asked),
        "canaries_reached": len(world.secrets),
    }


def _note(
    record: Record, outcomes: Counter[str], what: str, case: dict[str, str], outcome: str, right: bool
) -> None:
    record.tried += 1
    record.held += right
    outcomes[f"{what} {outcome}"] += 1
    if not right:
        record.not_held.append(f"{what} {case['url']} ({case['why']}): {outcome}")


def main() -> int:
    options = arguments("ssrf", __doc__.split("\n")[0]).parse_args()
    if not _CASES.is_file():
        print("ssrf: skipped, needs ../shared/corpus, which a plain clone does not have")
        return 0
    try:
        status = network.enter()
    except (PermissionError, FileNotFoundError) as error:
        print(f"ssrf: skipped, there can be no network of its own: {error}")
        return 0
    if status is not None:
        return status
    record = Record(
        "ssrf",
        "SSRF",
        "every case of the corpus as a source and as a receiver, to a whole server with its default settings "
        "in a network where every address answers: only the public server is dialled, and nothing else is "
        "reached",
        options.short,
    )
    began = time.monotonic()
    with network.name_server_here(_NAME_SERVER), internet() as world:
        _run(record, world)
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
