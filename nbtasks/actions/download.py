"""`download_file`: download a file, with retries, resuming and checksums."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from nbtasks import validation
from nbtasks.actions.call_thread import CallThread, finish
from nbtasks.exceptions import ActionError, ChecksumError, InvalidValueError
from nbtasks.formatting import size
from nbtasks.packages import require
from nbtasks.task import Task

if TYPE_CHECKING:
    import httpx

__all__ = ["Checksum", "Part", "download_file"]


@dataclass(frozen=True, slots=True)
class Checksum:
    """The hash that a file must have."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "algorithm:hexadecimal digits"; raises InvalidValueError."""
        algorithm, colon, digest = text.strip().lower().partition(":") if isinstance(text, str) else ("", "", "")
        if not colon or algorithm not in hashlib.algorithms_available:
            raise InvalidValueError(f'a checksum must be like "sha256:...", not {text!r}')
        length = 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size
        if not length or len(digest) != length or set(digest) - set("0123456789abcdef"):
            raise InvalidValueError(f"a {algorithm} checksum has {length} hexadecimal digits, not {digest!r}")
        return cls(algorithm, digest)


class Part:
    """An unfinished download: `<name>.part`, and `<name>.part.json` about it.

    It is opened at the first byte. `validator` is the server's tag for this version of the file: without one the
    rest could be of another version, so nothing is kept. Used by one thread at a time, except for `close`.
    """

    def __init__(self, destination: Path, url: str, *, resume: bool) -> None:
        self._destination = destination
        self._url = url
        self._path = destination.with_name(destination.name + ".part")
        self._note = destination.with_name(destination.name + ".part.json")
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._resume = resume
        self._closed = False
        self.size = 0
        """How many bytes it has."""
        self.total: int | None = None
        """How many the whole file has, if the server says so."""
        self.validator = ""
        if resume:
            self._resume_earlier()

    def _resume_earlier(self) -> None:
        """Continue with the part of an earlier call, if it is of the same file."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            found = self._path.stat().st_size
        except (OSError, ValueError):  # missing or incomplete
            return
        if isinstance(note, dict) and note.get("url") == self._url and isinstance(note.get("validator"), str):
            self.validator = note["validator"]
            self.size = found if self.validator else 0

    def begin(self, validator: str) -> None:
        """Start from the first byte, of the version that `validator` names."""
        self.clear()
        self.validator = validator
        if validator and self._resume:
            self._note.write_text(json.dumps({"url": self._url, "validator": validator}), encoding="utf-8")

    def write(self, chunks: Iterable[bytes]) -> None:
        """Add these bytes."""
        with self._lock:
            if self._file is None:
                self._file = self._path.open("r+b" if self.size else "wb")
                self._file.seek(self.size)
            # In one write: each one waits for the GIL.
            self.size += self._file.write(b"".join(chunks))

    def clear(self) -> None:
        """Delete what there is."""
        self._shut()
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.size, self.total, self.validator = 0, None, ""

    def check(self, wanted: Checksum) -> None:
        """Raise ChecksumError, and keep nothing, if the file has another hash."""
        self._shut()
        found = hashlib.new(wanted.algorithm, usedforsecurity=False)
        with self._path.open("rb") as file:
            while not self._closed and (block := file.read(1 << 20)):
                found.update(block)
        if not self._closed and found.hexdigest() != wanted.digest:
            self.clear()
            raise ChecksumError(
                f"the {wanted.algorithm} of {self._url} is {found.hexdigest()}, not {wanted.digest}: nothing was kept"
            )

    def finish(self) -> None:
        """Move the complete file to the destination."""
        self.write(())  # an empty file is a file
        self._shut()
        os.replace(self._path, self._destination)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep the part if a later call can resume it, else delete it. A running check stops."""
        self._closed = True
        self._shut()
        if not (self.size and self.validator and self._resume):
            self._path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def _shut(self) -> None:
        with self._lock:  # after a write on the other thread
            if self._file is not None:
                self._file.close()
                self._file = None


_WRITE_BYTES = 1 << 20
"""How much is gathered before a thread writes it: the event loop never waits for a disk."""
_SHOW_SECONDS = 0.1
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_active: set[Path] = set()


async def download_file(
    task: Task,
    url: str,
    destination: str | PathLike[str],
    chunk_size: int = 8192,
    *,
    checksum: str | None = None,
    resume: bool = True,
    retries: int = 3,
    retry_delay: float | timedelta = 1.0,
    timeout_seconds: float | timedelta = 30,
    headers: Mapping[str, str] | None = None,
    client: Any = None,
) -> Path:
    """Download `url` to the file `destination`, in chunks of `chunk_size` bytes; returns its path.

    The bytes go to the file `destination` + `.part`, which replaces the destination once it is complete. After a
    connection that breaks or is silent for `timeout_seconds`, or an overloaded server, it tries again, `retries` times
    in a row without progress, after `retry_delay` seconds and then twice as long each time. If the server allows it,
    the download is resumed, also in a later call if this one fails or is cancelled (not if `resume` is false).

    `checksum` is "sha256:..." or of another algorithm of hashlib. `client` is an httpx.AsyncClient of yours, for
    proxies, certificates and the like. Raises InvalidValueError for a wrong argument, before any request, and
    ActionError if the download fails.
    """
    validation.url("url", url)
    path = _checked_destination(destination)
    validation.whole_number("chunk_size", chunk_size, 1)
    validation.whole_number("retries", retries, 0)
    delay = validation.seconds("retry_delay", retry_delay)
    limit = validation.seconds("timeout_seconds", timeout_seconds, zero=False)
    wanted = None if checksum is None else Checksum.parse(checksum)
    library = require("httpx", "download_file")
    own = library.AsyncClient(follow_redirects=True, timeout=limit) if client is None else None
    with _alone(path), CallThread() as calls:
        part = Part(path, url, resume=resume)
        try:
            run = _Download(task, library, own or client, url, part, calls, chunk_size, dict(headers or {}))
            await run.to_the_end(retries, delay)
            if wanted is not None:
                task.body = f"checking {wanted.algorithm}"
                await calls.call(part.check, wanted)
            await finish(calls.call(part.finish))
        finally:
            part.close()
            if own is not None:
                await own.aclose()
    task.body = f"{size(path.stat().st_size)} in {run.seconds:.1f} s"
    return path


class _BrokenError(Exception):
    """An error after which the request is tried again."""


class _Download:
    """The requests of one call, until the file is complete."""

    def __init__(
        self,
        task: Task,
        library: Any,
        client: httpx.AsyncClient,
        url: str,
        part: Part,
        calls: CallThread,
        chunk_size: int,
        headers: dict[str, str],
    ) -> None:
        self._task = task
        self._httpx = library
        self._client = client
        self._url = url
        self._part = part
        self._calls = calls
        self._chunk_size = chunk_size
        self._headers = headers
        self._start = time.monotonic()
        self._received = 0
        self._before = 0
        """The size of the part before the first byte of this call."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """The time since the first request."""
        return time.monotonic() - self._start

    async def to_the_end(self, retries: int, delay: float) -> None:
        """Send requests until the file is complete; raises ActionError after `retries` tries without progress."""
        failures = best = 0
        while True:
            try:
                return await self._request()
            except self._httpx.UnsupportedProtocol as error:
                raise InvalidValueError(f"{self._url}: {error}") from None
            except self._httpx.ConnectError as error:
                if not self._received:  # no server there: waiting does not help
                    raise ActionError(f"{self._url} cannot be reached: {error}") from None
                reason: Exception = error
            except (self._httpx.TransportError, _BrokenError) as error:
                reason = error
            except self._httpx.HTTPError as error:
                raise ActionError(f"{self._url}: {error}") from None
            failures = 1 if self._part.size > best else failures + 1
            best = max(best, self._part.size)
            if failures > retries:
                cause = str(reason) or type(reason).__name__
                raise ActionError(f"{self._url} could not be downloaded, tried {failures} times: {cause}") from None
            self._task.body = f"{self._sizes(self._part.size)}; retrying: {reason}"
            await asyncio.sleep(delay * 2 ** (failures - 1))

    async def _request(self) -> None:
        part = self._part
        headers = {"Accept-Encoding": "identity", **self._headers}
        rest = bool(part.size and part.validator)
        if rest:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if rest and response.status_code == 416:  # no bytes after those that we have
                whole = response.headers.get("content-range", "") == f"bytes */{part.size}"
                if not whole:
                    part.clear()
                    raise _BrokenError("the server does not resume the download")
                return
            self._check_status(response)
            self._check_offset(response)
            await self._receive(response)
        if part.total is not None and part.size != part.total:
            raise _BrokenError(f"the server promised {part.total} bytes and sent {part.size}")

    def _check_status(self, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}"
        if response.status_code in _TRY_AGAIN:
            raise _BrokenError(status)
        if response.status_code not in (200, 206):
            raise ActionError(f"{self._url}: {status}")

    def _check_offset(self, response: httpx.Response) -> None:
        """Make sure that the response is the rest of the part, or the whole file."""
        part, headers = self._part, response.headers
        if response.status_code == 206:
            match = _RANGE.match(headers.get("content-range", ""))
            if not match or int(match[1]) != part.size or not part.size:
                part.clear()
                raise _BrokenError("the server sent another part of the file than requested")
            part.total = None if match[2] == "*" else int(match[2])
            return
        encoded = headers.get("content-encoding", "identity") != "identity"  # then its lengths are not the file's
        etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
        part.begin("" if encoded else etag if etag and not etag.startswith("W/") else modified)
        length = headers.get("content-length", "")
        part.total = int(length) if length.isdecimal() and not encoded else None

    async def _receive(self, response: httpx.Response) -> None:
        part = self._part
        gathered: list[bytes] = []
        count = 0
        writing: asyncio.Future[None] | None = None
        self._before = part.size - self._received
        self._show()
        try:
            async for chunk in response.aiter_bytes(self._chunk_size):
                gathered.append(chunk)
                count += len(chunk)
                self._received += len(chunk)
                if count >= _WRITE_BYTES:
                    if writing is not None:
                        await finish(writing)
                    writing = self._calls.call(part.write, gathered)
                    gathered, count = [], 0
        finally:
            self._show()
            self._stop_showing()
            if writing is not None:
                await finish(writing)
            part.write(gathered)  # little is left; also kept after an error or a cancel

    def _show(self) -> None:
        """Show progress and speed, now and then ten times a second, since each chunk would be too often."""
        self._stop_showing()
        have, total = self._before + self._received, self._part.total
        if total:
            self._task.progress = min(100.0, 100.0 * have / total)
        self._task.body = f"{self._sizes(have)}, {size(self._received / max(self.seconds, 0.001))}/s"
        self._timer = asyncio.get_running_loop().call_later(_SHOW_SECONDS, self._show)

    def _stop_showing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sizes(self, have: int) -> str:
        total = self._part.total
        return size(have) + ("" if total is None else f" of {size(total)}")


def _checked_destination(destination: Any) -> Path:
    if not isinstance(destination, str | PathLike) or not str(destination):
        raise InvalidValueError(f"destination must be the path of a file, not {destination!r}")
    path = Path(destination).expanduser().absolute()
    if path.is_dir():
        raise InvalidValueError(f"the destination {str(path)!r} is a folder: add the name of the file")
    if not path.parent.is_dir():
        raise InvalidValueError(f"there is no folder {str(path.parent)!r} for the destination: create it first")
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Refuse a second download to the same file, which would write into the same part."""
    if path in _active:
        raise InvalidValueError(f"{str(path)!r} is already being downloaded")
    _active.add(path)
    try:
        yield
    finally:
        _active.discard(path)
