"""`download_file`: download a file, with retries, resuming and checksums."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from nbtasks.retry import MAX_DELAY, backed_off
from nbtasks.task import Task

if TYPE_CHECKING:
    import httpx

__all__ = ["Checksum", "MisfitError", "Part", "download_file"]


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


class MisfitError(Exception):
    """An answer, or bytes on the disk, of another file than the part."""


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
            total = note.get("total")
            if note["validator"] and (total is None or found <= total):
                self.validator, self.total, self.size = note["validator"], total, found

    def begin(self, validator: str, total: int | None) -> None:
        """Start from the first byte, of the version that `validator` names and that has `total` bytes."""
        self.clear()
        self.validator, self.total = validator, total
        if validator and self._resume:
            note = {"url": self._url, "validator": validator, "total": total}
            self._note.write_text(json.dumps(note), encoding="utf-8")

    def write(self, chunks: Iterable[bytes]) -> None:
        """Add these bytes. Raises MisfitError if something else has changed the file on the disk."""
        with self._lock:
            if self._file is None:
                if self.size:
                    self._check_disk()
                self._file = self._path.open("r+b" if self.size else "wb")
                self._file.seek(self.size)
            # In one write: each one waits for the GIL.
            self.size += self._file.write(b"".join(chunks))

    def _check_disk(self) -> None:
        found = self._path.stat().st_size if self._path.exists() else 0
        if found != self.size:
            raise MisfitError(f"{str(self._path)!r} has {found} bytes, not the {self.size} that were written")

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
        """Move the complete file to the destination; raises MisfitError if the disk has another size."""
        self.write(())  # an empty file is a file
        self._shut()
        self._check_disk()
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
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
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
    in a row without progress, after `retry_delay` seconds and then twice as long each time, up to an hour. If the
    server allows it, the download is resumed, also in a later call if this one fails or is cancelled (not if `resume`
    is false). Each answer must fit what was downloaded before: position, length, size of the whole file, ETag or time
    of the last change, and the bytes on the disk. What does not fit is dropped and the download starts over, once.

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
            await run.whole(part.finish)
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
        self._misfit = ""
        """Why the download started over; from then on no part of the file is asked for."""

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
            except MisfitError as error:
                self._start_over(error)
                best = 0
                continue
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
                raise self._given_up(failures, reason) from None
            self._task.body = f"{self._sizes(self._part.size)}; retrying: {reason}"
            await asyncio.sleep(backed_off(delay, 2.0, failures - 1, MAX_DELAY))

    async def whole(self, finish_part: Callable[[], None]) -> None:
        """Move the complete file to the destination; raises ActionError if something else has changed it."""
        try:
            await finish(self._calls.call(finish_part))
        except MisfitError as error:
            self._part.clear()
            raise ActionError(f"{self._url}: {error}") from None

    def _start_over(self, error: MisfitError) -> None:
        """Drop all that was downloaded; raises ActionError if that was done before."""
        self._part.clear()
        if self._misfit:
            raise ActionError(f"{self._url}: {error}; it was started over before, because {self._misfit}") from None
        self._misfit = str(error)
        self._task.body = f"starting over: {error}"

    def _given_up(self, failures: int, reason: Exception) -> ActionError:
        cause = str(reason) or type(reason).__name__
        why = f"; it was started over before, because {self._misfit}" if self._misfit else ""
        return ActionError(f"{self._url} could not be downloaded, tried {failures} times: {cause}{why}")

    async def _request(self) -> None:
        """Send one request, and take its answer; returns once the file is complete."""
        part = self._part
        if part.size and (self._misfit or not part.validator):
            part.clear()
        headers = {"Accept-Encoding": "identity", **self._headers}
        rest = bool(part.size)
        if rest:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if rest and response.status_code == 416:  # no bytes after those that we have
                _check_end(part, response.headers)
                return
            self._check_status(response)
            if response.status_code == 206:
                end: int | None = _end_of_rest(part, response.headers, asked_for=rest)
            else:
                end = _begin_whole(part, response, asked_for_rest=rest)
            await self._receive(response, end)
        if response.status_code == 206 and part.total is None:
            raise _BrokenError("the server does not say whether more follows")  # the next answer shows it
        if part.total is not None and part.size != part.total:
            raise _BrokenError(f"the server promised {part.total} bytes and sent {part.size}")

    def _check_status(self, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}"
        if response.status_code in _TRY_AGAIN:
            raise _BrokenError(status)
        if response.status_code not in (200, 206):
            raise ActionError(f"{self._url}: {status}")

    async def _receive(self, response: httpx.Response, end: int | None) -> None:
        """Write the bytes of an answer that ends before the byte `end` of the file; None: not known."""
        part = self._part
        gathered: list[bytes] = []
        count = 0
        writing: asyncio.Future[None] | None = None
        begin = part.size
        self._before = begin - self._received
        self._show()
        try:
            async for chunk in response.aiter_bytes(self._chunk_size):
                gathered.append(chunk)
                count += len(chunk)
                self._received += len(chunk)
                if end is not None and self._before + self._received > end:
                    raise MisfitError(f"the server sent more than the {end - begin} bytes that it promised")
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


def _check_end(part: Part, headers: httpx.Headers) -> None:
    """Check the answer that no bytes follow those of the part. Raises MisfitError."""
    match = re.fullmatch(r"bytes \*/(\d+)", headers.get("content-range", ""))
    if match is None or int(match[1]) != part.size or part.total not in (None, part.size):
        raise MisfitError(f"the server does not send what follows {part.size} bytes")
    _check_version(part, headers)


def _end_of_rest(part: Part, headers: httpx.Headers, *, asked_for: bool) -> int:
    """Check that an answer is the rest of the part; returns the byte at which it ends. Raises MisfitError."""
    if not asked_for:
        raise MisfitError("the server sent a part of the file, and was asked for all of it")
    text = headers.get("content-range", "")
    match = _RANGE.fullmatch(text)
    if match is None or _is_packed(headers):
        raise MisfitError(f"the server sent a part of the file in a form that cannot be read: {text!r}")
    first, last = int(match[1]), int(match[2])
    if first != part.size or last < first:
        raise MisfitError(f"the server sent {text!r}, and was asked for the bytes from {part.size} on")
    length = headers.get("content-length")
    if length is not None and length != str(last - first + 1):
        raise MisfitError(f"the server sent {text!r} with {length} bytes")
    if match[3] != "*":
        total = int(match[3])
        if part.total not in (None, total) or last >= total:
            raise MisfitError(f"the server sent {text!r}; the file had {part.total} bytes before")
        part.total = total
    elif part.total is not None and last >= part.total:
        raise MisfitError(f"the server sent {text!r}; the file had {part.total} bytes before")
    _check_version(part, headers)
    return last + 1


def _begin_whole(part: Part, response: httpx.Response, *, asked_for_rest: bool) -> int | None:
    """Begin the part again with an answer that is the whole file; returns its length, if known.

    Raises MisfitError.
    """
    headers = response.headers
    packed = _is_packed(headers)  # then its lengths are not the file's
    sent = re.fullmatch(r"bytes 0-(\d+)/(\d+)", headers.get("content-range", "bytes 0-0/1"))
    if sent is None or int(sent[1]) + 1 != int(sent[2]):  # some servers name the range that is the whole file
        raise MisfitError(f"the server sent {headers['content-range']!r} as if that were the whole file")
    length = headers.get("content-length", "")
    if packed and not length and "transfer-encoding" not in headers and response.http_version.startswith("HTTP/1"):
        raise MisfitError("the server packs the file and does not say where it ends")
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    validator = "" if packed else etag if etag and not etag.startswith("W/") else modified
    total = int(length) if length.isdecimal() and not packed else None
    if asked_for_rest:
        _check_not_rest(part, total, validator)
    part.begin(validator, total)
    return total


def _check_not_rest(part: Part, total: int | None, validator: str) -> None:
    """Check that an answer that says it is the whole file is not just the rest of it. Raises MisfitError."""
    other_version = validator not in ("", part.validator)
    if other_version and (total is None or part.total is None or total != part.total - part.size):
        return
    if total is None or total != part.total:
        had = "an unknown number of" if part.total is None else part.total
        sent = "an unknown number of" if total is None else total
        raise MisfitError(f"the server sent {sent} bytes as the whole file, which had {had} bytes before")


def _check_version(part: Part, headers: httpx.Headers) -> None:
    """Raise MisfitError if an answer says that it is of another version of the file than the part."""
    name = "etag" if part.validator.startswith('"') else "last-modified"
    found = headers.get(name, part.validator)
    if found != part.validator:
        raise MisfitError(f"the server sent a part of another version: {name} {found}, not {part.validator}")


def _is_packed(headers: httpx.Headers) -> bool:
    return bool(headers.get("content-encoding", "identity") != "identity")


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
