"""The part of a file that has come so far: beside its destination, with what is needed to go on from there.

Must not know where the bytes come from.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from nbtasks.exceptions import ChecksumError, InvalidValueError

__all__ = ["Checksum", "Part"]


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
