"""The edge encrypted, by files that change while Envoy runs."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_tls import Files, presented
from tests.edge.conftest import Edge, running_edge
from upscaled import TLS, Client

TAKE_UP_SECONDS = 10


def test_https_and_grpc_are_spoken_on_the_same_port_and_a_new_certificate_is_taken_up(
    edge: Edge, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    authority = tmp_path.parent / f"{tmp_path.name}.ca"
    files.ca.rename(authority)
    with running_edge(edge.server, tls=tmp_path) as encrypted:
        context = ssl.create_default_context(cafile=str(authority))
        answer = httpx.get(f"https://{encrypted.address}/v1/server", verify=context, trust_env=False)
        assert answer.json()["version"]
        with Client(encrypted.address, tls=TLS(ca=authority), timeout=10) as client:
            assert client.server_info().version == answer.json()["version"]
        first = presented(encrypted.address)
        files.renew()
        deadline = time.monotonic() + TAKE_UP_SECONDS
        while presented(encrypted.address) == first:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_with_an_authority_of_clients_only_their_certificates_come_in(edge: Edge, tmp_path: Path) -> None:
    files = Files(tmp_path)
    cert, key = files.client_files(tmp_path)
    with running_edge(edge.server, tls=tmp_path) as encrypted:
        url = f"https://{encrypted.address}/v1/server"
        context = ssl.create_default_context(cafile=str(files.ca))
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=context, trust_env=False)
        context.load_cert_chain(cert, key)
        assert httpx.get(url, verify=context, trust_env=False).status_code == 200
