"""The server at the public address: good ones, hostile ones, and redirects."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable

Headers = dict[str, str]
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

REDIRECTS = {
    "302-to-imds": "http://169.254.169.254/latest/meta-data/",
    "302-to-mapped": "http://[::ffff:127.0.0.1]/",
    "302-to-rebind": "http://rebind.test/",
    "302-to-loopback": "http://127.0.0.1/",
    "307-to-private": "http://10.0.0.1/",
    "302-to-ok": "http://public.test/ok.png",
    "302-to-relative": "../ok.png?a=ü b",
    "302-to-scheme-relative": "//10.0.0.1/",
    "302-to-file": "file:///etc/passwd",
    "302-to-user": "http://user:SECRET41@public.test/ok.png",
    "302-to-nothing": "",
}


def png(padding: int = 0) -> bytes:
    """A whole picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    extra = chunk(b"tEXt", b"a\0" + b"b" * padding) if padding else b""
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    return head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class OriginServer:
    """`asked` holds the request lines and headers; `quiet` is set while nothing is being answered."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Headers]] = []
        self.quiet = asyncio.Event()
        self._running = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self._running += 1
        self.quiet.clear()
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            self.asked.append((lines[0], headers))
            path = lines[0].split(" ")[1].partition("?")[0]
            await self._answer(path, headers, reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._running -= 1
            if not self._running:
                self.quiet.set()

    async def _answer(self, path: str, headers: Headers, reader: Reader, writer: Writer) -> None:
        name = path.removeprefix("/")
        if headers["host"].partition(":")[0] not in (
            "public.test",
            "public6.test",
            "nat64.test",
            "two.test",
            "localhost",
        ):
            write(writer, 404, b"no such host")
        elif name.startswith("r/chain-"):
            left = int(name.removeprefix("r/chain-"))
            redirect(writer, f"/r/chain-{left - 1}" if left else "/ok.png")
        elif name.startswith("r/"):
            redirect(writer, REDIRECTS[name.removeprefix("r/")], int(name[2:5]))
        elif name in ANSWERS:
            await ANSWERS[name](writer, reader)
        else:
            write(writer, 404, b"not found")


def write(writer: Writer, status: int, body: bytes, **headers: str) -> None:
    lines = [
        f"HTTP/1.1 {status} X",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def redirect(writer: Writer, to: str, status: int = 302) -> None:
    write(writer, status, b"", Location=to, Set_Cookie="session=1")


async def _ok(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, png(), Content_Type="image/png", Set_Cookie="session=1")


async def _html(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, b"<!doctype html><title>no picture</title>" + b" " * 100, Content_Type="image/png")


async def _short(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, png(), Content_Length=str(len(png()) - 20))


async def _long(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, png(), Content_Length=str(len(png()) + 20))


async def _endless(writer: Writer, _reader: Reader) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + png()[:33])
    while True:
        writer.write(b"\0" * 65536)
        await writer.drain()


async def _slow(writer: Writer, _reader: Reader) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for each in png(padding=1000):
        writer.write(bytes([each]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def _silent(_writer: Writer, reader: Reader) -> None:
    await reader.read()


async def _stalled(writer: Writer, reader: Reader) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + png()[:20])
    await writer.drain()
    await reader.read()


async def _bomb(writer: Writer, _reader: Reader) -> None:
    """A gigabyte of zeros behind the head of a picture, in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packer.compress(png()[:33]))
    zeros = b"\0" * (1 << 20)
    for _ in range(1024):
        writer.write(packer.compress(zeros))
        await writer.drain()
    writer.write(packer.flush())


async def _gzip(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, gzip.compress(png()), Content_Encoding="gzip")


async def _gzip_cut(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, gzip.compress(png())[:-9], Content_Encoding="gzip")


async def _brotli(writer: Writer, _reader: Reader) -> None:
    write(writer, 200, png(), Content_Encoding="br")


async def _endless_head(writer: Writer, _reader: Reader) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def _endless_promises(writer: Writer, _reader: Reader) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
        await writer.drain()


async def _crumbs(writer: Writer, _reader: Reader) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    data = png(padding=1 << 16)
    writer.write(b"".join(b"1\r\n%c\r\n" % each for each in data) + b"0\r\n\r\n")


async def _no_http(writer: Writer, _reader: Reader) -> None:
    writer.write(b"220 mail.test ESMTP\r\n")


async def _error(writer: Writer, _reader: Reader) -> None:
    write(writer, 503, b"FORGED-41")


ANSWERS: dict[str, Callable[[Writer, Reader], Awaitable[None]]] = {
    "ok.png": _ok,
    "html-200": _html,
    "lie-length-short": _short,
    "lie-length-long": _long,
    "endless": _endless,
    "endless-head": _endless_head,
    "endless-promises": _endless_promises,
    "crumbs": _crumbs,
    "slow": _slow,
    "silent": _silent,
    "stalled": _stalled,
    "bomb": _bomb,
    "gzip": _gzip,
    "gzip-cut": _gzip_cut,
    "brotli": _brotli,
    "no-http": _no_http,
    "error": _error,
}
