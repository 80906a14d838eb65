"""Errors of background cells, shown as IPython shows them; `exit` in a cell."""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.formatting import error_text
from nbtasks.notebook.output.output import Output

__all__ = [
    "ExitTask",
    "as_in_foreground",
    "clear_frames",
    "remote_messages",
    "render_error",
    "set_remote_messages",
    "show_as_rendered",
    "show_error",
    "warn_of_exit",
    "without_own_frames",
]

_REMOTE_MESSAGES = "_nbtasks_remote_messages"
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class ExitTask:
    """`exit` and `quit` in a background cell: end the task, not the kernel."""

    def __call__(self, *_: object, **__: object) -> None:
        """End the task."""
        raise SystemExit("exit() ends the task; the kernel keeps running")

    def __repr__(self) -> str:
        return "exit() ends this task"


def warn_of_exit() -> None:
    """Show IPython's warning about SystemExit, as if from the line that shows it in the foreground."""
    lines, first = inspect.getsourcelines(InteractiveShell.run_code)
    text = "To exit: use 'exit', 'quit', or Ctrl-D."
    number = next((first + index for index, line in enumerate(lines) if text in line), first)
    module = sys.modules[InteractiveShell.__module__]
    registry = vars(module).setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, UserWarning, str(module.__file__), number, module.__name__, registry)


def set_remote_messages(error: BaseException, messages: Sequence[Sequence[Any]]) -> None:
    """Keep with an error of another process the messages, as pairs of type and content, that show it."""
    setattr(error, _REMOTE_MESSAGES, messages)


def remote_messages(error: BaseException) -> Sequence[Sequence[Any]] | None:
    """The messages that show an error of another process; None for an error of this one."""
    messages: Sequence[Sequence[Any]] | None = getattr(error, _REMOTE_MESSAGES, None)
    return messages


def show_error(shell: InteractiveShell, output: Output, error: BaseException) -> None:
    """Add `error` to `output` as the foreground would show it; if that fails, show why."""
    try:
        _show(shell, output, error)
    except BaseException as another:  # noqa: BLE001 - the user's code, such as a `__str__`, may raise anything
        _show(shell, output, another)


def _show(shell: InteractiveShell, output: Output, error: BaseException) -> None:
    if isinstance(error, UsageError):
        output.write("stderr", f"UsageError: {error_text(error)}\n")
    elif _contains_group(error):
        # IPython leaves exception groups to the standard library, as text.
        own = without_own_frames(error.__traceback__)
        output.write("stderr", "".join(traceback.format_exception(type(error), error, own)))
    else:
        output.error(type(error).__name__, error_text(error), render_error(shell, error))


def show_as_rendered(shell: InteractiveShell, error: BaseException) -> None:
    """Make the foreground, where `error` is about to be raised, show it as the background cell would have."""
    messages = remote_messages(error) or ()
    lines = next((content["traceback"] for kind, content in messages if kind == "error"), None)
    lines = lines or render_error(shell, error)
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]


def as_in_foreground(shell: InteractiveShell, error: SyntaxError) -> Exception:
    """The exception that shows a syntax error, raised by a magic, as if the cell itself had been run.

    IPython would show a SyntaxError with the frames of the magic. An error of another class decides how it is shown.
    """
    lines = list(copy.copy(shell.SyntaxTB).structured_traceback(type(error), error, []))
    shown: type[Exception] = type(type(error).__name__, (Exception,), {"_render_traceback_": lambda _: lines})
    return shown(*error.args)


def render_error(shell: InteractiveShell, error: BaseException) -> list[str]:
    """The traceback in IPython's format, without frames of nbtasks before those of the cell."""
    own = without_own_frames(error.__traceback__)
    kind = type(error)
    try:
        if isinstance(error, SyntaxError):
            from_code = traceback.extract_tb(own) if own is not error.__traceback__ else []
            return list(copy.copy(shell.SyntaxTB).structured_traceback(kind, error, from_code))
        if isinstance(error, SystemExit):  # IPython's own words
            only = copy.copy(shell.InteractiveTB).get_exception_only(kind, error)
            return ["An exception has occurred, use %tb to see the full traceback.\n", *only]
        if hasattr(error, "_render_traceback_"):
            return list(error._render_traceback_())
        # The shell's formatter keeps the traceback it formats; the foreground may be using it.
        formatter = copy.copy(shell.InteractiveTB)
        return list(formatter.structured_traceback(kind, error, own, tb_offset=0))
    except BaseException:  # noqa: BLE001 - a user's __repr__ or __str__ may raise anything
        return traceback.format_exception(kind, error, own)


def clear_frames(error: BaseException, tb: TracebackType | None) -> None:
    """Drop the local variables of the frames in which an error and its causes were raised.

    `tb` is the traceback of the error when its task ended: the frames of code that has waited for the task since, which
    come before, may be in use.
    """
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        step = tb if one is error else one.__traceback__
        while step is not None:
            _clear_frame(step.tb_frame, step.tb_lasti)
            step = step.tb_next
        todo += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]


def _clear_frame(frame: FrameType, raised_at: int) -> None:
    if frame.f_code.co_flags & _SUSPENDS and frame.f_lasti != raised_at:
        return  # a coroutine that has caught the error: `clear` would end it before Python 3.13
    # Before Python 3.13 the variables are also in a dict once they have been looked at, which `clear` leaves alone.
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame.f_locals.clear()
    with contextlib.suppress(RuntimeError):  # it is still running
        frame.clear()


def without_own_frames(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the cell on: without those of nbtasks and asyncio before it."""
    first = tb
    while tb is not None:
        module = tb.tb_frame.f_globals.get("__name__", "")
        if not module.startswith("nbtasks.") and not module.startswith(("asyncio.", "contextvars", "threading")):
            return tb
        tb = tb.tb_next
    return first


def _contains_group(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return True
        error = error.__context__
    return False
