"""`download_file`: a file from the web, in pieces, that is whole or not there.

What is kept of a file that is not whole is the business of `part`.
"""

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

from nbtasks.actions.arguments import checked_count, checked_seconds, checked_url, needed
from nbtasks.actions.blocking import Aside, to_its_end
from nbtasks.exceptions import ActionError, ChecksumError, InvalidValueError
from nbtasks.task import Task

if TYPE_CHECKING:
    import httpx

__all__ = ["Checksum", "Part", "download_file"]



@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's hash must be."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "algorithm:hexadecimal digits"; raises InvalidValueError."""
        algorithm, colon, digest = text.strip().lower().partition(":") if isinstance(text, str) else ("", "", "")
        if not colon or algorithm not in hashlib.algorithms_available:
            raise InvalidValueError(f'a checksum reads "sha256:..." or the like, not {text!r}')
        length = 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size
        if not length or len(digest) != length or set(digest) - set("0123456789abcdef"):
            raise InvalidValueError(f"a {algorithm} checksum has {length} hexadecimal digits, not {digest!r}")
        return cls(algorithm, digest)


class Part:
    """The files `<name>.part` and `<name>.part.json`, which says whose part it is.

    It is opened at the first byte. `validator` is the server's word for this version of the file: without one nobody
    can tell whether a rest belongs to it, and nothing is kept. Used by one thread at a time, but for `close`.
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
            self._take_up()

    def _take_up(self) -> None:
        """Go on with the part that an earlier call left, if it is of the same file."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            size = self._path.stat().st_size
        except (OSError, ValueError):  # there is none, or not a whole one
            return
        if isinstance(note, dict) and note.get("url") == self._url and isinstance(note.get("validator"), str):
            self.validator = note["validator"]
            self.size = size if self.validator else 0

    def begin(self, validator: str) -> None:
        """The bytes from the first one on will come, of the version that `validator` names."""
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
            # At once: a thread that writes little by little waits for its turn each time.
            self.size += self._file.write(b"".join(chunks))

    def clear(self) -> None:
        """Begin from nothing."""
        self._shut()
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.size, self.total, self.validator = 0, None, ""

    def check(self, wanted: Checksum) -> None:
        """Raise ChecksumError, and keep nothing, if the file's hash is another."""
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
        """It is whole: let it take the destination's place."""
        self.write(())  # an empty file is a file
        self._shut()
        os.replace(self._path, self._destination)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what a later call can go on from, and nothing else. A check that still runs stops."""
        self._closed = True
        self._shut()
        if not (self.size and self.validator and self._resume):
            self._path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def _shut(self) -> None:
        with self._lock:  # whoever is writing has written
            if self._file is not None:
                self._file.close()
                self._file = None


_WRITE_BYTES = 1 << 20
"""So much is gathered before it is written, by a thread: the loop never waits for a disk."""
_TELL_SECONDS = 0.1
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

    The bytes go to a file beside it, `destination` with `.part` behind, which takes its place once all of them are
    there; what was in its place before stays until then. A connection that breaks, or says nothing for
    `timeout_seconds`, and a server that is overloaded are tried again, `retries` times in a row without progress, after
    `retry_delay` seconds and then twice as long each time. Where the server allows it the download goes on from where
    it was, also in a later call if this one fails or is cancelled (not if `resume` is false).

    `checksum` is "sha256:..." or of another algorithm of hashlib. `client` is an httpx.AsyncClient of yours, for
    proxies, certificates and the like. Raises InvalidValueError for what cannot be, with nothing asked of the server,
    and ActionError if the file cannot be had.
    """
    checked_url(url)
    path = _checked_destination(destination)
    checked_count("chunk_size", chunk_size, 1)
    checked_count("retries", retries, 0)
    delay = checked_seconds("retry_delay", retry_delay)
    limit = checked_seconds("timeout_seconds", timeout_seconds, zero=False)
    wanted = None if checksum is None else Checksum.parse(checksum)
    library = needed("httpx", "download_file")
    own = library.AsyncClient(follow_redirects=True, timeout=limit) if client is None else None
    with _alone(path), Aside() as aside:
        part = Part(path, url, resume=resume)
        try:
            run = _Download(task, library, own or client, url, part, aside, chunk_size, dict(headers or {}))
            await run.to_the_end(retries, delay)
            if wanted is not None:
                task.body = f"checking {wanted.algorithm}"
                await aside.call(part.check, wanted)
            await to_its_end(aside.call(part.finish))
        finally:
            part.close()
            if own is not None:
                await own.aclose()
    task.body = f"{_size(path.stat().st_size)} in {run.seconds:.1f} s"
    return path


class _BrokenError(Exception):
    """Worth another try."""


class _Download:
    """The requests of one call, until its part is whole."""

    def __init__(
        self,
        task: Task,
        library: Any,
        client: httpx.AsyncClient,
        url: str,
        part: Part,
        aside: Aside,
        chunk_size: int,
        headers: dict[str, str],
    ) -> None:
        self._task = task
        self._httpx = library
        self._client = client
        self._url = url
        self._part = part
        self._aside = aside
        self._chunk_size = chunk_size
        self._headers = headers
        self._start = time.monotonic()
        self._received = 0
        self._before = 0
        """What the part had when the first byte of this call came."""
        self._teller: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """Since the first request."""
        return time.monotonic() - self._start

    async def to_the_end(self, retries: int, delay: float) -> None:
        """Ask until the part is whole; raises ActionError when `retries` tries in a row brought nothing."""
        failures = best = 0
        while True:
            try:
                return await self._ask()
            except self._httpx.UnsupportedProtocol as error:
                raise InvalidValueError(f"{self._url}: {error}") from None
            except self._httpx.ConnectError as error:
                if not self._received:  # nobody is there: no use to wait
                    raise ActionError(f"{self._url} cannot be reached: {error}") from None
                reason: Exception = error
            except (self._httpx.TransportError, _BrokenError) as error:
                reason = error
            except self._httpx.HTTPError as error:
                raise ActionError(f"{self._url}: {error}") from None
            failures = 1 if self._part.size > best else failures + 1
            best = max(best, self._part.size)
            if failures > retries:
                told = str(reason) or type(reason).__name__
                raise ActionError(f"{self._url} could not be downloaded, tried {failures} times: {told}") from None
            self._task.body = f"{self._sizes(self._part.size)}; trying again: {reason}"
            await asyncio.sleep(delay * 2 ** (failures - 1))

    async def _ask(self) -> None:
        part = self._part
        headers = {"Accept-Encoding": "identity", **self._headers}
        rest = bool(part.size and part.validator)
        if rest:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if rest and response.status_code == 416:  # there is nothing after what we have: is it all?
                whole = response.headers.get("content-range", "") == f"bytes */{part.size}"
                if not whole:
                    part.clear()
                    raise _BrokenError("the server does not go on from where it was")
                return
            self._check_status(response)
            self._settle_offset(response)
            await self._receive(response)
        if part.total is not None and part.size != part.total:
            raise _BrokenError(f"the server promised {part.total} bytes and sent {part.size}")

    def _check_status(self, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}"
        if response.status_code in _TRY_AGAIN:
            raise _BrokenError(status)
        if response.status_code not in (200, 206):
            raise ActionError(f"{self._url}: {status}")

    def _settle_offset(self, response: httpx.Response) -> None:
        """See to it that what comes is what the part lacks."""
        part, headers = self._part, response.headers
        if response.status_code == 206:
            match = _RANGE.match(headers.get("content-range", ""))
            if not match or int(match[1]) != part.size or not part.size:
                part.clear()
                raise _BrokenError("the server sent another part of the file than was asked for")
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
        size = 0
        writing: asyncio.Future[None] | None = None
        self._before = part.size - self._received
        self._tell()
        try:
            async for chunk in response.aiter_bytes(self._chunk_size):
                gathered.append(chunk)
                size += len(chunk)
                self._received += len(chunk)
                if size >= _WRITE_BYTES:
                    if writing is not None:
                        await to_its_end(writing)
                    writing = self._aside.call(part.write, gathered)
                    gathered, size = [], 0
        finally:
            self._tell()
            self._fall_silent()
            if writing is not None:
                await to_its_end(writing)
            part.write(gathered)  # what is left is little; it is kept if this ends by an error or a cancel, too

    def _tell(self) -> None:
        """Say how far it is, now and ten times a second from now on: at each chunk would cost more than the chunk."""
        self._fall_silent()
        have, total = self._before + self._received, self._part.total
        if total:
            self._task.progress = min(100.0, 100.0 * have / total)
        self._task.body = f"{self._sizes(have)}, {_size(self._received / max(self.seconds, 0.001))}/s"
        self._teller = asyncio.get_running_loop().call_later(_TELL_SECONDS, self._tell)

    def _fall_silent(self) -> None:
        if self._teller is not None:
            self._teller.cancel()

    def _sizes(self, have: int) -> str:
        total = self._part.total
        return _size(have) + ("" if total is None else f" of {_size(total)}")


def _checked_destination(destination: Any) -> Path:
    if not isinstance(destination, str | PathLike) or not str(destination):
        raise InvalidValueError(f"a destination is the path of a file, not {destination!r}")
    path = Path(destination).expanduser().absolute()
    if path.is_dir():
        raise InvalidValueError(f"the destination {str(path)!r} is a folder: name the file in it")
    if not path.parent.is_dir():
        raise InvalidValueError(f"there is no folder {str(path.parent)!r} for the destination: make it first")
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two downloads to one file would write into each other's part."""
    if path in _active:
        raise InvalidValueError(f"{str(path)!r} is being downloaded already")
    _active.add(path)
    try:
        yield
    finally:
        _active.discard(path)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit has no end")
