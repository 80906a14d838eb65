"""Former globals of moved functions, kept alive as long as a frame may use them.

A frame borrows its globals from its function (see `object_layout.py`). When a function gets other globals, frames of
its earlier calls still use the former dict and hold no reference to it. So `keep` puts that dict into a collection that
is never freed, not even when the interpreter exits. From time to time all frames of the process are examined, and the
dicts that none of them uses are released. No frame can begin to use such a dict unnoticed, since that takes a function
whose globals it is, and a function holds its globals.

A frame is either on the stack of a thread, or belongs to an object that the garbage collector knows: a generator, a
coroutine, or a frame object that a traceback or a variable holds. A frame may move from the first to the second
meanwhile, so the stacks are read before the objects, each stack within one call of C code, in which no other thread
runs. Where frames may be out of sight, nothing is released: while a greenlet is suspended, in frozen objects, and in a
garbage collection that another thread has begun.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import operator
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbtasks.notebook.cells.names_view import Names

__all__ = ["BorrowedGlobals", "globals_of_all_frames"]

# By the id of the type: a metaclass may have a `__hash__` and an `__eq__` of its own.
_OWNERS: dict[int, Callable[[Any], types.FrameType | None]] = {
    id(types.GeneratorType): operator.attrgetter("gi_frame"),
    id(types.CoroutineType): operator.attrgetter("cr_frame"),
    id(types.AsyncGeneratorType): operator.attrgetter("ag_frame"),
    id(types.FrameType): lambda frame: frame,
}
_MANY = 2_000
"""How many dicts are kept before the frames are examined. They are almost empty: all of them take half a megabyte."""
_FROZEN = gc.get_freeze_count()  # before there was any such dict; some versions of Python freeze what they begin with
_TRIES = 3  # an automatic garbage collection may come between


class BorrowedGlobals:
    """The dicts that are kept alive, guarded by `_lock`. Any thread may use it."""

    def __init__(self, many: int = _MANY) -> None:
        self._least = self._many = many
        self._lock = threading.RLock()  # re-entrant: a garbage collection runs destructors
        self._kept: dict[int, Names] = {}
        self._moving = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, names: Names) -> bool:
        return id(names) in self._kept

    @contextlib.contextmanager
    def keep(self, names: Names) -> Iterator[None]:
        """Keep `names` alive, for functions that are moved out of it in the body of the `with` statement."""
        with self._lock:
            if len(self._kept) >= self._many:
                self.release()
                # A process that keeps many generators is not to be searched at every cell.
                self._many = max(self._least, 2 * len(self._kept))
            self._moving += 1
            self._kept[id(names)] = names
            try:
                yield
            finally:
                self._moving -= 1

    def release(self) -> bool:
        """Release what no frame uses; whether that could be told."""
        with self._lock:
            # While a function is being moved, a call of it may just begin. So what is kept meanwhile stays, too.
            candidates = set() if self._moving else set(self._kept)
            used = next(filter(None, (globals_of_all_frames() for _ in range(_TRIES))), None)
            if used is None:
                return False
            for key in candidates - used:
                del self._kept[key]
            return True


def globals_of_all_frames() -> set[int] | None:
    """The ids of the dicts that are globals of a frame; None if some frames may be out of sight."""
    if gc.get_freeze_count() > _FROZEN:
        return None
    collections = _collections()
    frames = [frame for thread in sys._current_frames() for frame in _stack(thread)]
    objects = gc.get_objects()
    try:
        gc.collect(0)  # does nothing if a collection runs in another thread, whose garbage is out of sight
        if _collections() != collections + 1 or _is_any_greenlet_suspended(objects):
            return None
        owned = (_OWNERS[id(type(value))](value) for value in objects if id(type(value)) in _OWNERS)
        frames += [frame for frame in owned if frame is not None]
        return {id(frame.f_globals) for frame in frames}
    finally:
        # Our own frame is among them, and would keep them all in a cycle.
        frames.clear()
        objects.clear()


def _is_any_greenlet_suspended(objects: list[Any]) -> bool:
    """Whether a stack other than those of the threads has frames.

    A main greenlet is suspended, too, while another one runs.
    """
    greenlet = getattr(sys.modules.get("greenlet"), "greenlet", None)
    if greenlet is None:
        return False
    return any(issubclass(type(one), greenlet) and greenlet.gr_frame.__get__(one) is not None for one in objects)


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def _stack(thread: int) -> Iterator[types.FrameType]:
    """The frames of a thread from the innermost outwards, read while no other thread runs."""
    innermost = map(operator.itemgetter(thread), map(operator.call, [sys._current_frames]))
    # Each frame's `f_back`, called as C code: `__get__(frame, None)` of the attribute's descriptor.
    outwards = itertools.accumulate(itertools.chain(innermost, itertools.repeat(None)), _BACK)
    try:
        return iter(list(itertools.takewhile(operator.truth, outwards)))
    except KeyError:  # it has ended
        return iter(())


_BACK = types.FrameType.f_back.__get__
