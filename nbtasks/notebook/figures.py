"""pyplot's figures and matplotlib's settings per task, and one lock for rendering.

A background plot never shows in a foreground cell and is never closed by one, nor the other way round. Does nothing,
and imports nothing, until matplotlib is imported by the user. Knows nothing of tasks: a context is given its plots.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from nbtasks.imports import after_import

__all__ = ["Figures", "Plots"]

_plots: contextvars.ContextVar[Plots | None] = contextvars.ContextVar("nbtasks_plots", default=None)
_rendering = threading.RLock()

# These say how this process draws, for every cell alike: pyplot sets them up once, whichever cell plots first.
_PROCESS_WIDE = frozenset({"backend", "backend_fallback", "interactive", "toolbar"})


class Plots:
    """The open pyplot figures of one attempt, and its matplotlib settings, which start as the notebook's are."""

    def __init__(self) -> None:
        self.figures: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self.settings: dict[str, Any] | None = None
        self._before: dict[str, Any] = {}

    def enter(self) -> None:
        """From now on in this context, and in threads started from it, pyplot works on these."""
        _plots.set(self)
        self.begin()

    def begin(self) -> None:
        """Take the notebook's settings, once matplotlib is there."""
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is not None and hasattr(matplotlib, "rcParams"):
            self._before = dict(list(dict.items(matplotlib.rcParams)))
            self.settings = dict(self._before)

    def show(self) -> None:
        """Display what the cell left open, as the inline backend does at the end of a foreground cell."""
        inline = sys.modules.get("matplotlib_inline.backend_inline")
        if self.figures and inline is not None and "inline" in str(sys.modules["matplotlib"].rcParams._get("backend")):
            inline.show(close=None)

    def commit(self) -> None:
        """Set in the notebook what the cell changed of the settings, where the notebook did not change it meanwhile."""
        if self.settings is None:
            return
        notebook = sys.modules["matplotlib"].rcParams
        for key, value in self.settings.items():
            before = self._before.get(key)
            if value is not before and value != before and dict.get(notebook, key) is before:
                dict.__setitem__(notebook, key, value)
        self.settings = None


class Figures:
    """Separates tasks' plots from the notebook's, in matplotlib itself, as soon as it is imported."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Separate now what is imported, and the rest when it is."""
        for name, prepare in (
            ("matplotlib", self._separate_settings),
            ("matplotlib._pylab_helpers", self._separate_figures),
            ("matplotlib.backend_bases", self._lock_rendering),
        ):
            self._undo.append(after_import(name, prepare))

    def uninstall(self) -> None:
        """Undo `install`."""
        while self._undo:
            self._undo.pop()()

    def _separate_figures(self, helpers: ModuleType) -> None:
        notebook = helpers.Gcf.figs
        helpers.Gcf.figs = _FiguresByContext(notebook)

        def undo() -> None:
            helpers.Gcf.figs = notebook

        self._undo.append(undo)

    def _separate_settings(self, matplotlib: ModuleType) -> None:
        plain = type(matplotlib.rcParams)
        matplotlib.rcParams.__class__ = _settings_class(plain)
        plots = _plots.get()
        if plots is not None:  # the task itself is importing matplotlib
            plots.begin()

        def undo() -> None:
            matplotlib.rcParams.__class__ = plain

        self._undo.append(undo)

    def _lock_rendering(self, backend_bases: ModuleType) -> None:
        canvas = backend_bases.FigureCanvasBase
        print_figure = canvas.print_figure

        @functools.wraps(print_figure)
        def one_at_a_time(*args: Any, **kwargs: Any) -> Any:
            with _rendering:
                return print_figure(*args, **kwargs)

        canvas.print_figure = one_at_a_time

        def undo() -> None:
            canvas.print_figure = print_figure

        self._undo.append(undo)


class _FiguresByContext(collections.abc.MutableMapping[Any, Any]):
    """pyplot's register of open figures: the task's in its context, the notebook's elsewhere."""

    def __init__(self, notebook: collections.OrderedDict[Any, Any]) -> None:
        self._notebook = notebook

    def _figures(self) -> collections.OrderedDict[Any, Any]:
        plots = _plots.get()
        return self._notebook if plots is None else plots.figures

    def __getitem__(self, number: Any) -> Any:
        return self._figures()[number]

    def __setitem__(self, number: Any, manager: Any) -> None:
        self._figures()[number] = manager

    def __delitem__(self, number: Any) -> None:
        del self._figures()[number]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._figures())

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self._figures())[::-1])

    def __len__(self) -> int:
        return len(self._figures())

    def values(self) -> Any:
        return self._figures().values()

    def items(self) -> Any:
        return self._figures().items()

    def keys(self) -> Any:
        return self._figures().keys()

    def move_to_end(self, number: Any, last: bool = True) -> None:
        self._figures().move_to_end(number, last)


def _settings_class(base: type[Any]) -> type[Any]:
    class RcParams(base):
        """matplotlib's settings: the task's in its context, the notebook's elsewhere."""

        def _get(self, key: str) -> Any:
            settings = _task_settings()
            return super()._get(key) if settings is None or key in _PROCESS_WIDE else settings[key]

        def _set(self, key: str, value: Any) -> None:
            settings = _task_settings()
            if settings is None or key in _PROCESS_WIDE:
                super()._set(key, value)
            else:
                settings[key] = value

        def _update_raw(self, other: Any) -> None:
            settings = _task_settings()
            if settings is not None:
                settings.update(dict.items(other) if type(other) is base else other)
            else:
                super()._update_raw(other)

        def __delitem__(self, key: str) -> None:
            settings = _task_settings()
            if settings is not None:
                del settings[key]
            else:
                super().__delitem__(key)

        def copy(self) -> Any:
            copied = base()
            for key in self:
                copied._set(key, self._get(key))
            return copied

    return RcParams


def _task_settings() -> dict[str, Any] | None:
    plots = _plots.get()
    return None if plots is None else plots.settings
