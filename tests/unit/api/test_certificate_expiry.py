"""When a certificate ends, read from files as they are mounted."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from upscaled_server.api.certificate import CertificateExpiry, not_after


@pytest.mark.parametrize(
    "ends",
    [
        datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2049, 12, 31, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),
        datetime(2120, 5, 6, tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("kind", list(trustme.KeyType))
def test_the_end_is_what_another_reader_finds(ends: datetime, kind: trustme.KeyType) -> None:
    made = trustme.CA(key_type=kind).issue_cert("localhost", not_after=ends, key_type=kind)
    pem = made.cert_chain_pems[0].bytes()
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc == ends
    assert not_after(pem.decode()) == ends.timestamp()


def test_of_a_chain_the_first_counts(tmp_path: Path) -> None:
    authority = trustme.CA()
    first = authority.issue_cert("localhost", not_after=datetime(2031, 1, 1, tzinfo=UTC)).cert_chain_pems[0]
    path = tmp_path / "tls.crt"
    path.write_bytes(b"# a comment\n" + first.bytes() + authority.cert_pem.bytes())
    assert CertificateExpiry(path).timestamp() == datetime(2031, 1, 1, tzinfo=UTC).timestamp()


def test_a_renewed_file_is_read_again_and_one_that_is_gone_or_damaged_tells_nothing(tmp_path: Path) -> None:
    authority, path = trustme.CA(), tmp_path / "tls.crt"

    def renew(year: int) -> float:
        ends = datetime(year, 1, 1, tzinfo=UTC)
        new = tmp_path / "new"
        new.write_bytes(authority.issue_cert("localhost", not_after=ends).cert_chain_pems[0].bytes())
        new.replace(path)
        return ends.timestamp()

    expiry = CertificateExpiry(path)
    assert expiry.timestamp() is None
    assert renew(2031) == expiry.timestamp() == expiry.timestamp()
    assert renew(2032) == expiry.timestamp()
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert expiry.timestamp() is None
    path.unlink()
    assert expiry.timestamp() is None
    assert renew(2033) == expiry.timestamp()


def test_no_damage_to_a_certificate_is_anything_but_an_error_or_a_time() -> None:
    pem = trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes().decode()
    for length in range(0, len(pem), 7):
        with suppress(ValueError, IndexError):
            assert isinstance(not_after(pem[:length]), float)


def test_the_file_is_read_once_while_it_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    path.write_bytes(trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes())
    expiry = CertificateExpiry(path)
    before, mark = expiry.timestamp(), path.stat()
    path.write_bytes(b"x" * mark.st_size)
    os.utime(path, ns=(mark.st_atime_ns, mark.st_mtime_ns))
    assert expiry.timestamp() == before
