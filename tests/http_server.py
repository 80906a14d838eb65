"""An HTTP server on loopback that serves one file, with the faults of real ones.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

__all__ = ["Answer", "FileServer", "serving"]


@dataclass
class Answer:
    """One answer as it is written: nothing of it has to be true."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    promise: int | None = None
    """The length that it gives, if not that of the body; -1: none."""
    chunked: bool = False

    def lines(self) -> list[str]:
        headers = {"Connection": "close", **self.headers}
        length = len(self.body) if self.promise is None else self.promise
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif length >= 0:
            headers["Content-Length"] = str(length)
        return [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]

    def content(self) -> bytes:
        return f"{len(self.body):x}\r\n".encode() + self.body + b"\r\n0\r\n\r\n" if self.chunked else self.body


@dataclass
class FileServer:
    """Content and behaviour of the server; may be changed between two requests.

    `requests` are those that came."""

    data: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    """Whether it can go on in the middle."""
    drop_after: list[int] = field(default_factory=list)
    """For each of the first answers the number of bytes of the body after which the connection is cut."""
    promise: int | None = None
    """What it says the length is, whatever it is."""
    tell_length: bool = True
    statuses: list[int] = field(default_factory=list)
    """The statuses of the first answers; 200 after that."""
    pause: float = 0.0
    """Seconds between two pieces."""
    piece: int = 16_384
    hold: threading.Event | None = None
    """If there is one: after the first piece the answer waits until it is set."""
    extra: dict[str, str] = field(default_factory=dict)
    """More headers."""
    rest_at_most: int | None = None
    """How much of a rest it sends at once."""
    wrong_range: bool = False
    """Whether it answers a request for the middle with another part."""
    silent: bool = False
    """Whether it never answers at all."""
    answers: list[Answer | None] = field(default_factory=list)
    """The first answers; None for one as usual."""
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request."""
        try:
            await self._answer(await _headers(reader), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(self, request: dict[str, str], writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        if self.silent:
            await asyncio.sleep(3600)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            writer.write("\r\n".join([*answer.lines(), "", ""]).encode())
            await self._send(writer, answer.content())
            return
        status = self.statuses.pop(0) if self.statuses else 200
        start, body = 0, self.data
        headers = {"Connection": "close"}
        headers |= self.extra
        if self.etag is not None:
            headers["ETag"] = self.etag
        version = self.etag or headers.get("Last-Modified")
        if status != 200:
            body = b"no"
        elif self.ranges and "range" in request and request.get("if-range", version) == version:
            match = re.fullmatch(r"bytes=(\d+)-", request["range"])
            assert match is not None
            start = int(match[1])
            if start >= len(self.data):
                status, body = 416, b""
                headers["Content-Range"] = f"bytes */{len(self.data)}"
            else:
                start = 0 if self.wrong_range else start
                end = len(self.data) if self.rest_at_most is None else min(len(self.data), start + self.rest_at_most)
                status, body = 206, self.data[start:end]
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(self.data)}"
        if self.tell_length:
            headers["Content-Length"] = str(len(body) if self.promise is None else self.promise)
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        cut = self.drop_after.pop(0) if self.drop_after and status in (200, 206) else None
        await self._send(writer, body if cut is None else body[:cut])

    async def _send(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        for offset in range(0, len(body), self.piece):
            writer.write(body[offset : offset + self.piece])
            await writer.drain()
            if self.hold is not None:
                while not self.hold.is_set():
                    await asyncio.sleep(0.005)
            if self.pause:
                await asyncio.sleep(self.pause)
        await writer.drain()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    return {":request": head[0], **{name.strip().lower(): value.strip() for name, _, value in fields}}


@contextmanager
def serving(**how: Any) -> Iterator[FileServer]:
    """A server on a free port of 127.0.0.1, on a thread of its own; stopped with the block."""
    server = FileServer(**how)
    ready, ends = threading.Event(), []

    async def serve() -> None:
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/file.bin"
        end = asyncio.Event()
        ends.append(partial(asyncio.get_running_loop().call_soon_threadsafe, end.set))
        ready.set()
        await end.wait()
        listening.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        ends[0]()
        thread.join(30)
