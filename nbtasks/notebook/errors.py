"""How an error of a background cell is shown: as IPython shows one in the foreground.

Knows nothing of tasks; it is handed the shell, an output and the exception.
"""

from __future__ import annotations

import copy
import traceback
from types import TracebackType

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.notebook.output import Output

__all__ = ["render_error", "show_as_rendered", "show_error", "without_own_frames"]


def show_error(shell: InteractiveShell, output: Output, error: BaseException) -> None:
    """Add `error` to `output`, as the foreground would show it."""
    if isinstance(error, UsageError):
        output.write("stderr", f"UsageError: {error}\n")
    elif _contains_group(error):
        # IPython leaves exception groups to the standard library, as text.
        own = without_own_frames(error.__traceback__)
        output.write("stderr", "".join(traceback.format_exception(type(error), error, own)))
    else:
        output.error(type(error).__name__, str(error), render_error(shell, error))


def show_as_rendered(shell: InteractiveShell, error: BaseException) -> None:
    """Make the foreground, where `error` is about to be raised, show it as its background cell would have."""
    lines = render_error(shell, error)
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]


def render_error(shell: InteractiveShell, error: BaseException) -> list[str]:
    """The lines of the traceback in IPython's format, from the cell's own first line on."""
    own = without_own_frames(error.__traceback__)
    kind = type(error)
    try:
        if isinstance(error, SyntaxError):
            from_code = traceback.extract_tb(own)
            return list(copy.copy(shell.SyntaxTB).structured_traceback(kind, error, from_code))
        if hasattr(error, "_render_traceback_"):
            return list(error._render_traceback_())
        # The shell's formatter keeps the traceback it formats; the foreground may be using it.
        formatter = copy.copy(shell.InteractiveTB)
        return list(formatter.structured_traceback(kind, error, own, tb_offset=0))
    except Exception:  # noqa: BLE001 - a user's __repr__ or __str__ may raise while the error is being formatted
        return traceback.format_exception(kind, error, own)


def without_own_frames(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not this package's, or the standard library's on the way there."""
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
