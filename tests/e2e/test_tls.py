"""The port encrypted, by files that are changed while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from tests.e2e.conftest import running_server
from upscaled import TLS, Client, UpscaledError
from upscaled_server.api.tls import server_credentials
from upscaled_server.errors import FailedPrecondition


class Files:
    """An authority and the files that it makes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.renew()

    def renew(self) -> None:
        """A new certificate in place of the old one, as a mounted Secret changes: one link at a time."""
        made = self.authority.issue_cert("127.0.0.1", "localhost")
        for path, blob in ((self.key, made.private_key_pem), (self.cert, made.cert_chain_pems[0])):
            blob.write_to_path(f"{path}.new")
            Path(f"{path}.new").replace(path)

    @property
    def settings(self) -> dict[str, str]:
        return {"UPSCALED_TLS_CERT_FILE": str(self.cert), "UPSCALED_TLS_KEY_FILE": str(self.key)}

    def client_files(self, folder: Path) -> tuple[Path, Path]:
        made = self.authority.issue_cert("client.example")
        made.private_key_pem.write_to_path(str(folder / "client.key"))
        made.cert_chain_pems[0].write_to_path(str(folder / "client.crt"))
        return folder / "client.crt", folder / "client.key"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def presented(address: str) -> str:
    """The certificate that the port shows now, as PEM."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=10)


def call(address: str, tls: TLS) -> str:
    with Client(address, tls=tls, timeout=10, retries=0) as client:
        return client.server_info().version


def test_a_client_that_knows_the_authority_is_served_and_others_are_not(files: Files, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.crt"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    with running_server(**files.settings) as server:
        assert call(server.address, TLS(ca=files.ca))
        with pytest.raises(UpscaledError):
            call(server.address, TLS(ca=stranger))
        with Client(server.address, timeout=5, retries=0) as plain, pytest.raises(UpscaledError):
            plain.server_info()


def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(files: Files) -> None:
    with running_server(**files.settings) as server:
        first = presented(server.address)
        files.renew()
        second = presented(server.address)
        assert second != first
        assert call(server.address, TLS(ca=files.ca))
        files.cert.write_text("not a certificate")
        assert presented(server.address) == second
        files.renew()
        assert presented(server.address) not in (first, second)


def test_with_an_authority_of_clients_only_their_certificates_come_in(files: Files, tmp_path: Path) -> None:
    cert, key = files.client_files(tmp_path)
    with running_server(**files.settings, UPSCALED_TLS_CLIENT_CA_FILE=str(files.ca)) as server:
        assert call(server.address, TLS(ca=files.ca, cert=cert, key=key))
        with pytest.raises(UpscaledError):
            call(server.address, TLS(ca=files.ca))


def test_files_that_do_not_belong_together_stop_the_start_and_are_named(files: Files, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FailedPrecondition, match="UPSCALED_TLS_KEY_FILE: cannot use"):
        server_credentials(files.cert, Files(other).key, None)
    with pytest.raises(FailedPrecondition, match="No such file"):
        server_credentials(tmp_path / "nothing", files.key, None)
    with pytest.raises(FailedPrecondition, match="UPSCALED_TLS_CLIENT_CA_FILE: cannot use"):
        server_credentials(files.cert, files.key, files.key)
