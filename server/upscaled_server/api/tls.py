"""Encryption of the port, from mounted files that may change while the server runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Self

import grpc
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import FailedPrecondition

log = logging.getLogger(__name__)


class TlsSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    tls_cert_file: Path | None = Field(
        None,
        description="PEM file of the port's certificate and of what stands between it and the root. The port "
        "then speaks nothing but TLS. Read again when it changes.",
    )
    tls_key_file: Path | None = Field(None, description="PEM file of the certificate's key, not encrypted.")
    tls_client_ca_file: Path | None = Field(
        None,
        description="PEM file of authorities. With it only clients whose certificate one of them signed can "
        "connect (mutual TLS).",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("UPSCALED_TLS_CERT_FILE and UPSCALED_TLS_KEY_FILE belong together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("UPSCALED_TLS_CLIENT_CA_FILE needs UPSCALED_TLS_CERT_FILE")
        return self

    @property
    def files(self) -> tuple[Path, Path, Path | None] | None:
        """Certificate, key, authorities of clients; None where the port is not encrypted."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file


def server_credentials(cert: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """Credentials that follow the files. Raises `FailedPrecondition` for files that cannot be used now; a
    change that cannot be used later is logged, and the files before it stay in force."""
    files = _Files(cert, key, client_ca)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        files.load(),
        files.changed,  # type: ignore[arg-type]  # None means unchanged, which the stubs do not know
        require_client_authentication=client_ca is not None,
    )
    return credentials


class _Files:
    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._seen: list[tuple[int, int, int]] = []

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Raises `FailedPrecondition`."""
        try:
            # Before they are read: what changes meanwhile is a change.
            self._seen = self._marks()
        except OSError as error:
            raise _unusable("UPSCALED_TLS_CERT_FILE and its like", str(error.filename), error) from None
        _check(self._cert, self._key, self._client_ca)
        return grpc.ssl_server_certificate_configuration(
            [(self._key.read_bytes(), self._cert.read_bytes())],
            root_certificates=None if self._client_ca is None else self._client_ca.read_bytes(),
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What grpc asks at every handshake: new files, or None to go on with the old ones."""
        try:
            if self._marks() == self._seen:
                return None
            loaded = self.load()
        except (FailedPrecondition, OSError) as error:
            log.error("the files of TLS have changed and cannot be used, the old ones stay: %s", error)
            return None
        log.info("TLS: %s has been read again", self._cert)
        return loaded

    def _marks(self) -> list[tuple[int, int, int]]:
        """What differs after a change, also one of a link, as Kubernetes does it."""
        stats = [path.stat() for path in (self._cert, self._key, self._client_ca) if path is not None]
        return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in stats]


def _check(cert: Path, key: Path, client_ca: Path | None) -> None:
    """grpc itself would refuse every client later, without a word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise _unusable("UPSCALED_TLS_CERT_FILE and UPSCALED_TLS_KEY_FILE", f"{cert}, {key}", error) from None
    if client_ca is None:
        return
    try:
        context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("UPSCALED_TLS_CLIENT_CA_FILE", str(client_ca), error) from None


def _unusable(setting: str, path: str, error: OSError) -> FailedPrecondition:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return FailedPrecondition(f"{setting}: cannot use {path}: {reason}", path=path)
