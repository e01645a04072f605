"""When a certificate ends. The standard library reads that of a peer only, so the few fields before the date
are stepped over here."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _INTEGER, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


class CertificateExpiry:
    """Of the first certificate of a PEM file, which is the server's own. The file is read again when it
    changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: tuple[int, int, int] | None = None
        self._ends: float | None = None

    def timestamp(self) -> float | None:
        """Seconds since 1970; None where the file holds no certificate that can be read now."""
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark != self._mark:
                self._ends, self._mark = not_after(self._path.read_text("latin-1")), mark
        except (OSError, ValueError, IndexError):
            self._mark = None
            return None
        return self._ends


def not_after(pem: str) -> float:
    """The end of the first certificate's validity, in seconds since 1970. Raises `ValueError` or `IndexError`
    for what is none."""
    start = pem.index(_BEGIN)
    der = ssl.PEM_cert_to_DER_cert(pem[start : pem.index(_END, start) + len(_END)])
    certificate, _ = _take(der, _SEQUENCE)
    fields, _ = _take(certificate, _SEQUENCE)
    if fields[0] == _VERSION:
        _, fields = _take(fields, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, algorithm, issuer
        _, fields = _take(fields, tag)
    validity, _ = _take(fields, _SEQUENCE)
    _, validity = _take(validity, validity[0])
    return _moment(validity[0], _take(validity, validity[0])[0].decode("ascii"))


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The contents of the element in front, and what follows it."""
    if data[0] != tag:
        raise ValueError(f"expected element {tag:#x}, found {data[0]:#x}")
    length, begin = data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin])
    if begin + length > len(data):
        raise ValueError("an element is cut off")
    return data[begin : begin + length], data[begin + length :]


def _moment(tag: int, text: str) -> float:
    """Two digits of a year are of 1950 to 2049 (RFC 5280); `strptime` would take those from 1969 on."""
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"{tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
