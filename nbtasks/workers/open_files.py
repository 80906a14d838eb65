"""Pickling of files.

An open one is opened again where it was; a closed one arrives closed. A file that comes back is the
same object, moved to where the other process has left it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import stat
import uuid
import weakref
from typing import Any

from nbtasks.workers.partial_unpickling import NotRebuiltError

__all__ = ["leave_loop", "reduced_file"]

_files: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The files that were sent or have arrived, by their mark."""
_marks: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_arrived_at: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""Where the files were that have arrived here."""
_READ_AGAIN = 2**26
"""The greatest size of a file, in bytes, that is read again to find a line in it."""
_MADE_BY_OPEN = os.O_CREAT | os.O_EXCL | os.O_TRUNC


def reduced_file(obj: Any) -> tuple[Any, ...]:
    """How to rebuild a file. Raises TypeError for an open one that is not on disk, or has no position."""
    mark = _marks.setdefault(obj, uuid.uuid4().hex)
    _files[mark] = obj
    encoding = obj.encoding if isinstance(obj, io.TextIOWrapper) else None
    if obj.closed:
        return _closed_file, (mark, obj.name, getattr(obj, "mode", "rb"), _buffering(obj), encoding)
    _check(obj)
    place = _place(obj)
    mode = obj.buffer.mode.replace("b", "") if encoding and not hasattr(obj, "mode") else obj.mode
    text = (encoding, obj.errors, _newline(obj)) if encoding else None
    found = os.fstat(obj.fileno())
    identity = (os.path.abspath(obj.name), found.st_dev, found.st_ino)
    return _open_file, (mark, obj.name, mode, _buffering(obj), text, identity, place, _arrived_at.get(obj))


def leave_loop(file: Any) -> None:
    """Have a text file that `next` has read tell its position again.

    That is the start of the line that comes next, after which as much text follows as is left to read. Only for files
    that nothing uses now.
    """
    if type(file) is not io.TextIOWrapper or file.closed or not file.readable() or _where(file) is not None:
        return
    with contextlib.suppress(OSError, TypeError):  # it cannot be sent, and stays as it is
        _check(file)
        if os.fstat(file.fileno()).st_size > _READ_AGAIN:
            return
        left = len(file.read())
        file.seek(0)
        lengths = [len(line) for line in file]
        file.seek(0)
        read = sum(lengths) - left
        while read > 0:
            read -= len(file.readline())


def _check(obj: Any) -> None:
    buffer = getattr(obj, "buffer", obj)
    if type(getattr(buffer, "raw", buffer)) is not io.FileIO:
        raise TypeError(f"an open {type(buffer).__name__} cannot be sent")
    if isinstance(obj.name, int) or not stat.S_ISREG(os.fstat(obj.fileno()).st_mode):
        raise TypeError("an open pipe, terminal or temporary file cannot be sent")


def _buffering(obj: Any) -> int:
    if isinstance(obj, io.FileIO):
        return 0
    return 1 if isinstance(obj, io.TextIOWrapper) and obj.line_buffering else -1


def _place(obj: Any) -> int:
    """Where it is, once what it holds back is written."""
    if obj.writable():
        obj.flush()
    try:
        return int(obj.tell())
    except OSError as error:  # of text that `next` reads
        raise TypeError(f"an open file in the middle of a loop over its lines cannot be sent: {error}") from None


def _newline(obj: io.TextIOWrapper) -> str | None:
    """The argument `newline` of `open`. No attribute has it, but the file refers to it after its encoding."""
    texts = [one for one in gc.get_referents(obj) if isinstance(one, str)]
    found = texts[1] if len(texts) > 2 and texts[1] in ("", "\n", "\r", "\r\n") else None
    universal = any(isinstance(one, io.IncrementalNewlineDecoder) for one in gc.get_referents(obj))
    return None if universal and found else found  # else it is text that was read ahead


def _open_file(
    mark: str,
    name: Any,
    mode: str,
    buffering: int,
    text: tuple[str, str | None, str | None] | None,
    identity: tuple[str, int, int],
    place: int,
    came_from: int | None,
) -> Any:
    """The file of that mark, at this place; `came_from` is where it was when it was sent from here."""
    file = _files.get(mark)
    if file is not None and (came_from is not None or not file.closed):
        _move(file, place, came_from)
        return file
    path, *inode = identity

    def opener(_: Any, flags: int) -> int:
        return os.open(path, flags & ~_MADE_BY_OPEN)

    encoding, errors, newline = text or (None, None, None)
    file = open(name, mode, buffering, encoding, errors, newline, opener=opener)  # noqa: SIM115 - it stays open
    found = os.fstat(file.fileno())
    if [found.st_dev, found.st_ino] != inode:
        file.close()
        raise FileNotFoundError(f"{path} is another file here")
    file.seek(place)
    _files[mark], _marks[file], _arrived_at[file] = file, mark, place
    return file


def _move(file: Any, place: int, came_from: int | None) -> None:
    if came_from is not None and _where(file) not in (came_from, place):
        if place == came_from:  # it was used here only
            return
        kind = f"{type(file).__module__}.{type(file).__qualname__}"
        why = f"{file.name} was read, written or closed in both processes at the same time"
        raise NotRebuiltError(kind, why, in_both=True)
    if file.readable():
        file.seek(0, os.SEEK_END)  # so that it forgets what it has read ahead, which may be written over
    file.seek(place)


def _where(file: Any) -> int | None:
    """Where it is; None if it is closed, or in the middle of a loop over its lines."""
    try:
        return None if file.closed else _place(file)
    except TypeError:
        return None


def _closed_file(mark: str, name: Any, mode: str, buffering: int, encoding: str | None) -> Any:
    found = _files.get(mark)
    if found is not None:
        found.close()
        return found
    kind = next((one for one in "rwax" if one in mode), "w").replace("x", "w") + ("+" if "+" in mode else "")
    file: Any = open(os.devnull, kind if encoding else f"{kind}b", buffering, encoding)  # noqa: SIM115 - see below
    raw = file if isinstance(file, io.FileIO) else file.buffer.raw if encoding else file.raw
    file.close()
    raw.name = name
    if encoding:
        file.mode = mode
    _files[mark], _marks[file] = file, mark
    return file
