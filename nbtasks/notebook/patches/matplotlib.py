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
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.post_import import after_import

__all__ = ["Figures", "Plots"]

_END = "post_execute"

_plots: contextvars.ContextVar[Plots | None] = contextvars.ContextVar("nbtasks_plots", default=None)
_rendering = threading.RLock()

# These say how this process draws, for every cell alike: pyplot sets them up once, whichever cell plots first.
_PROCESS_WIDE = frozenset({"backend", "backend_fallback", "toolbar"})
# With them it switches interactive mode on, for all; that a cell switches it off is the cell's affair.
_INTERACTIVE = "interactive"


class Plots:
    """The open pyplot figures of one attempt, and its matplotlib settings, which start as the notebook's are."""

    def __init__(self) -> None:
        self.figures: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self.settings: dict[str, Any] | None = None
        self.flags: dict[str, Any] = {"_draw_called": False, "_to_draw": []}
        """What the inline backend notes on its `show`: whether there is anything to show at the end of the cell."""
        self._before: dict[str, Any] = {}
        self._open_before: dict[Any, Any] = {}

    def enter(self) -> None:
        """From now on in this context, and in threads started from it, pyplot works on these."""
        _plots.set(self)
        self.begin()

    def begin(self) -> None:
        """Take the notebook's settings, and the figures that its cells left open, once matplotlib is there."""
        notebook = _notebook_figures()
        if notebook is not None:
            self._open_before = dict(notebook.settled)
            self.figures.update(self._open_before)
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is not None and hasattr(matplotlib, "rcParams"):
            self._before = dict(list(dict.items(matplotlib.rcParams)))
            self.settings = {key: value for key, value in self._before.items() if key != _INTERACTIVE}

    def show(self, shell: InteractiveShell) -> None:
        """Do with the open figures what pyplot and its backend do at the end of a foreground cell."""
        if not self.figures:
            return
        ends = EventManager(shell, {_END: None})
        ends.callbacks[_END] = [call for call in shell.events.callbacks[_END] if _is_of_matplotlib(call)]
        with _rendering:
            ends.trigger(_END)

    def commit(self) -> None:
        """Hand over the figures that are still open, and the settings that the notebook did not change meanwhile."""
        figures = _notebook_figures()
        if figures is not None:
            figures.take_over(self.figures, self._open_before)
        self.figures = collections.OrderedDict()
        if self.settings is None:
            return
        notebook = sys.modules["matplotlib"].rcParams
        for key, value in self.settings.items():
            before = self._before.get(key)
            if key in _PROCESS_WIDE:
                continue
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
            ("matplotlib_inline.backend_inline", self._separate_flags),
        ):
            self._undo.append(after_import(name, prepare))

    def uninstall(self) -> None:
        """Undo `install`."""
        while self._undo:
            self._undo.pop()()

    def foreground_ended(self) -> None:
        """A foreground cell is over: what is open now, later cells go on with."""
        figures = _notebook_figures()
        if figures is not None:
            figures.settle()

    def _separate_figures(self, helpers: ModuleType) -> None:
        notebook = helpers.Gcf.figs
        helpers.Gcf.figs = _FiguresByContext(notebook)

        def undo() -> None:
            helpers.Gcf.figs = notebook

        self._undo.append(undo)

    def _separate_settings(self, matplotlib: ModuleType) -> None:
        plain = type(matplotlib.rcParams)
        matplotlib.rcParams.__class__ = _settings_class(matplotlib.rcParams)
        plots = _plots.get()
        if plots is not None:  # the task itself is importing matplotlib
            plots.begin()

        def undo() -> None:
            matplotlib.rcParams.__class__ = plain

        self._undo.append(undo)

    def _separate_flags(self, inline: Any) -> None:
        show = inline.show
        inline.show = _ShowByContext(show)

        def undo() -> None:
            inline.show = show

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
        self.settled: dict[Any, Any] = {}
        """What foreground cells that are over have left open, as they do after `plt.ioff()`."""
        self.settle()

    def settle(self) -> None:
        """What is open in the foreground now stays so."""
        self.settled = dict(self._notebook)

    def take_over(self, now: Mapping[Any, Any], before: Mapping[Any, Any]) -> None:
        """Open in the notebook what is open `now`, and close what was open `before` and is no longer."""
        if list(self._notebook.items()) == list(before.items()):
            self._notebook.clear()
            self._notebook.update(now)
            self.settle()
            return
        # The foreground has opened or closed some meanwhile.
        for number in before.keys() - now.keys():
            if self._notebook.get(number) is before[number]:
                del self._notebook[number]
                self.settled.pop(number, None)
        for number, manager in now.items():
            if number not in before and number not in self._notebook:
                self._notebook[number] = self.settled[number] = manager

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


def _notebook_figures() -> _FiguresByContext | None:
    figures = getattr(getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None), "figs", None)
    return figures if isinstance(figures, _FiguresByContext) else None


class _ShowByContext:
    """The inline backend's `show`, whose notes on what is to be drawn are the task's in its context."""

    def __init__(self, show: Callable[..., None]) -> None:
        functools.update_wrapper(self, show)
        self._show = show
        self._flags = {"_draw_called": show._draw_called, "_to_draw": show._to_draw}  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._show(*args, **kwargs)

    def __getattribute__(self, name: str) -> Any:
        if name in ("_draw_called", "_to_draw"):
            return _flags(self)[name]
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_draw_called", "_to_draw"):
            _flags(self)[name] = value
        else:
            super().__setattr__(name, value)


def _flags(show: _ShowByContext) -> dict[str, Any]:
    plots = _plots.get()
    return show._flags if plots is None else plots.flags


def _is_of_matplotlib(callback: Any) -> bool:
    return getattr(callback, "__module__", None) in ("matplotlib.pyplot", "matplotlib_inline.backend_inline")


def _settings_class(notebook: Any) -> type[Any]:
    base: Any = type(notebook)

    class RcParams(base):
        """matplotlib's settings: the task's in its context, the notebook's elsewhere; copies are nobody's."""

        def _get(self, key: str) -> Any:
            settings = _task_settings(self)
            if settings is None or key not in settings or key in _PROCESS_WIDE:
                return super()._get(key)
            return settings[key]

        def _set(self, key: str, value: Any) -> None:
            settings = _task_settings(self)
            if settings is None or key in _PROCESS_WIDE or (key == _INTERACTIVE and value):
                super()._set(key, value)
            if settings is not None:
                settings[key] = value

        def _update_raw(self, other: Any) -> None:
            settings = _task_settings(self)
            if settings is not None:
                settings.update(dict.items(other) if isinstance(other, base) and other is not notebook else other)
            else:
                super()._update_raw(other)

        def __delitem__(self, key: str) -> None:
            settings = _task_settings(self)
            if settings is not None and key in settings:
                del settings[key]
            else:
                super().__delitem__(key)

    return RcParams


def _task_settings(params: Any) -> dict[str, Any] | None:
    plots = _plots.get()
    return None if plots is None or params is not sys.modules["matplotlib"].rcParams else plots.settings
