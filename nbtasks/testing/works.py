"""Work for the check of backends: functions and coroutine functions.

Any process can import it. It communicates by the fields of its task and by files in a folder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbtasks.progress import current_task, track

__all__ = ["COROUTINES", "ENDLESS", "FUNCTIONS"]

ENDLESS = 60.0
"""Duration in seconds of work that a check stops."""

_GLANCE = 0.01


def echo(value: object) -> object:
    """Return the argument."""
    return value


def fail(message: str) -> None:
    """Raise a ValueError."""
    raise ValueError(message)


def leave() -> None:
    """Raise SystemExit, which must not end the backend."""
    raise SystemExit("leaving")


def linger(seconds: float) -> str:
    """Sleep in short steps, so that an interrupt can stop it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(_GLANCE)
    return "not interrupted"


def report(go: str) -> str:
    """Report half of the progress, and wait for the file `go`."""
    for number in track(range(2)):
        if number == 1:
            _body("half way")
            _until(go)
    return "reported"


def fail_first(seen: str) -> str:
    """Create the file `seen` and fail; succeed if the file exists already."""
    if Path(seen).exists():
        return "the second time"
    Path(seen).touch()
    raise ConnectionError("the first time")


def clean_up_slowly(inside: str, go: str) -> None:
    """Create the file `inside`; after an interrupt wait for the file `go`."""
    try:
        Path(inside).touch()
        linger(ENDLESS)
    finally:
        _until(go)


def ignore_interrupt(inside: str) -> str:
    """Create the file `inside`; return a result even if interrupted."""
    try:
        Path(inside).touch()
        linger(ENDLESS)
    except BaseException:  # noqa: BLE001 - an interrupt is what it ignores
        return "finished all the same"
    return "not interrupted"


async def echo_later(value: object) -> object:
    """As `echo`."""
    return value


async def fail_later(message: str) -> None:
    """As `fail`."""
    raise ValueError(message)


async def leave_later() -> None:
    """As `leave`."""
    raise SystemExit("leaving")


async def linger_later(seconds: float) -> str:
    """As `linger`."""
    await asyncio.sleep(seconds)
    return "not interrupted"


async def report_later(go: str) -> str:
    """As `report`."""
    for number in track(range(2)):
        if number == 1:
            _body("half way")
            await _until_later(go)
    return "reported"


async def fail_first_later(seen: str) -> str:
    """As `fail_first`."""
    return fail_first(seen)


async def clean_up_slowly_later(inside: str, go: str) -> None:
    """As `clean_up_slowly`."""
    try:
        Path(inside).touch()  # noqa: ASYNC240 - an empty file
        await asyncio.sleep(ENDLESS)
    finally:
        await _until_later(go)


async def ignore_interrupt_later(inside: str) -> str:
    """As `ignore_interrupt`."""
    try:
        Path(inside).touch()  # noqa: ASYNC240 - an empty file
        await asyncio.sleep(ENDLESS)
    except asyncio.CancelledError:
        return "finished all the same"
    return "not interrupted"


FUNCTIONS: dict[str, Callable[..., Any]] = {
    work.__name__: work for work in (echo, fail, leave, linger, report, fail_first, clean_up_slowly, ignore_interrupt)
}
COROUTINES: dict[str, Callable[..., Any]] = {
    "echo": echo_later, "fail": fail_later, "leave": leave_later, "linger": linger_later, "report": report_later,
    "fail_first": fail_first_later, "clean_up_slowly": clean_up_slowly_later,
    "ignore_interrupt": ignore_interrupt_later,
}  # fmt: skip


def _body(text: str) -> None:
    task = current_task()
    assert task is not None, "current_task() is None in the work"
    task.body = text


def _until(path: str) -> None:
    while not Path(path).exists():
        time.sleep(_GLANCE)


async def _until_later(path: str) -> None:
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - the work of other processes uses files too
        await asyncio.sleep(_GLANCE)
