"""Position of a thread in its `with` statements: may an exception be raised in it?

An exception from another thread is raised when the thread checks for one: at the start of a function, at the end of a
call of C code, at a jump back. At some of these moments a lock is left locked for ever:

- within an `__enter__` or `__exit__` written in Python, such as those of `threading.Condition`, which `queue.Queue`
  uses;
- on Python 3.14 at the end of the call of an `__enter__` written in C, such as that of `threading.Lock`: the lock is
  acquired, and the `with` statement does not protect it yet (gh-148874).

A thread that waits for the GIL is at a check, and raises the exception there, or, from Python 3.13, at the next one.
One that is in a call of C code raises it when that returns.
"""

from __future__ import annotations

import dis
import functools
import itertools
import sys
import types
from collections.abc import Iterator

__all__ = ["has_just_entered", "may_leave_locked"]

_ENTERS = frozenset({"__enter__", "__aenter__"})
_METHODS = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__"})
_CHECKS = ("CALL", "JUMP_BACKWARD", "RESUME", "WITH_EXCEPT_START")
_RAISED_AT_NEXT_CHECK = sys.version_info >= (3, 13)
_FAR = 100
"""How many instructions are looked at."""

_Place = tuple[types.FrameType, int]


def has_just_entered(thread_id: int) -> bool:
    """Whether the thread is in, or at the end of, an `__enter__` written in C, if Python checks there."""
    frame = sys._current_frames().get(thread_id)
    return frame is not None and frame.f_lasti in _calls_of_with(frame.f_code).enter


def may_leave_locked(thread_id: int, *, in_call: bool) -> bool:
    """Whether an exception set now may be raised where it leaves a lock locked.

    `in_call`: also if the thread is in a call of C code, rather than at its end.
    """
    frame = sys._current_frames().get(thread_id)
    step = None if frame is None else _calls_of_with(frame.f_code).steps.get(frame.f_lasti)
    if frame is None or step is None:
        return False
    is_check = _checks(step)
    if is_check and (in_call or not _RAISED_AT_NEXT_CHECK) and _within_method(frame):
        return True
    return (_RAISED_AT_NEXT_CHECK or not is_check) and any(map(_is_unsafe, _next_checks(frame)))


def _is_unsafe(place: _Place) -> bool:
    frame, at = place
    calls = _calls_of_with(frame.f_code)
    return at in calls.enter or at in calls.leave or _within_method(frame)


def _within_method(frame: types.FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in _METHODS:
            return True
        frame = frame.f_back
    return False


def _next_checks(frame: types.FrameType) -> Iterator[_Place]:
    """Where the next check of the thread may be."""
    todo = _successors(frame, frame.f_lasti)
    for _ in range(_FAR):
        if not todo:
            return
        one, at = todo.pop()
        step = _calls_of_with(one.f_code).steps.get(at)
        if step is not None and _checks(step):
            yield one, at
        elif step is not None:
            todo += _successors(one, at)


def _successors(frame: types.FrameType, place: int) -> list[_Place]:
    """Where the thread may be after that instruction, in this frame or in one that called it."""
    calls = _calls_of_with(frame.f_code)
    step = calls.steps.get(place)
    if step is None:
        return []
    if step.opname.startswith("RETURN_"):
        back = frame.f_back
        return [] if back is None else _successors(back, back.f_lasti)
    found = [] if step.opname in _NEVER_FALL_THROUGH else [(frame, calls.following[place])]
    if step.opcode in dis.hasjrel:
        found.append((frame, step.argval))
    return found


_NEVER_FALL_THROUGH = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RERAISE"})


def _checks(step: dis.Instruction) -> bool:
    return step.opname.startswith(_CHECKS) and not step.opname.startswith("CALL_INTRINSIC")


class _CallsOfWith:
    """The instructions of a code object, and the calls of its `with` statements."""

    def __init__(self, code: types.CodeType) -> None:
        steps = [step for step in dis.get_instructions(code) if step.opname not in ("PRECALL", "CACHE")]
        places = [step.offset for step in steps]
        self.steps = dict(zip(places, steps, strict=True))
        self.following = dict(zip(places, [*places[1:], -1], strict=True))
        self.enter = frozenset(
            step.offset
            for before, step in itertools.pairwise(steps)
            if step.opname == "CALL" and before.opname == "LOAD_SPECIAL" and before.argrepr in _ENTERS
        )
        self.leave = frozenset(
            step.offset
            for place, step in enumerate(steps)
            if step.opname == "WITH_EXCEPT_START"
            or (step.opname == "CALL" and all(map(_loads_none, steps[max(0, place - 3) : place])) and place >= 3)
        )


def _loads_none(step: dis.Instruction) -> bool:
    return step.opname.startswith("LOAD_") and step.argrepr == "None"


@functools.lru_cache(maxsize=128)
def _calls_of_with(code: types.CodeType) -> _CallsOfWith:
    return _CallsOfWith(code)
