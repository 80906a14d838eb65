"""Monkeypatches of matplotlib: figures and settings per cell, one rendering lock.

A plot of a background cell never shows in a foreground cell and is never closed by one, nor the other way round.
matplotlib is not imported here: each module is patched once the user has imported it.
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

from nbtasks.notebook.output.away_cells import away_cell
from nbtasks.patch import Patch, PatchSet
from nbtasks.post_import import ModulePatches

__all__ = ["Plots", "foreground_ended", "matplotlib_patches"]

_END = "post_execute"

_plots: contextvars.ContextVar[Plots | None] = contextvars.ContextVar("nbtasks_plots", default=None)
_rendering = threading.RLock()

# pyplot sets these once for the whole process, when the first cell plots.
_PROCESS_WIDE = frozenset({"backend", "backend_fallback", "toolbar"})
# pyplot then also switches interactive mode on, for all cells. Switched off by a cell, it is off in that cell only.
_INTERACTIVE = "interactive"
# Attributes of the inline backend's `show`: whether and what to draw at the end of the cell.
_DRAW_FLAGS = frozenset({"_draw_called", "_to_draw"})


def _plots_here() -> Plots | None:
    plots = _plots.get()
    if plots is None and (cell := away_cell()) is not None:
        plots = cell.plots
    return plots


class Plots:
    """The open pyplot figures of one attempt, and its matplotlib settings.

    Both start as a copy of the notebook's.
    """

    def __init__(self) -> None:
        self.figures: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self.settings: dict[str, Any] | None = None
        self.flags: dict[str, Any] = {"_draw_called": False, "_to_draw": []}
        self._before: dict[str, Any] = {}
        self._open_before: dict[Any, Any] = {}

    def enter(self) -> None:
        """Use these figures and settings in this context and in threads that are started from it."""
        _plots.set(self)
        self.begin()

    def take_from_foreground(self) -> Callable[[], None]:
        """Have the figures and flags of the running foreground cell, and the notebook's settings themselves.

        Returns a function that takes them from the foreground, to be called as soon as the cell uses this.
        """
        figures, show = _notebook_figures(), _inline_show()
        if figures is not None:
            self._open_before = dict(figures.settled)
            self.figures.update(figures.of_notebook())
        if show is not None:
            self.flags = show.flags_of_notebook()

        def take() -> None:  # also what the cell, which is still running, has added meanwhile
            if figures is not None:
                for number, manager in figures.take_unsettled().items():
                    self.figures.setdefault(number, manager)
            if show is not None:
                late, known = show.take_flags(), self.flags["_to_draw"]
                self.flags["_draw_called"] |= late["_draw_called"]
                self.flags["_to_draw"] = [*known, *(figure for figure in late["_to_draw"] if figure not in known)]

        return take

    def begin(self) -> None:
        """Copy the notebook's settings, and the figures that its cells left open, if matplotlib is imported."""
        notebook = _notebook_figures()
        if notebook is not None:
            self._open_before = dict(notebook.settled)
            self.figures.update(self._open_before)
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is not None and hasattr(matplotlib, "rcParams"):
            self._before = dict(list(dict.items(matplotlib.rcParams)))
            self.settings = {key: value for key, value in self._before.items() if key != _INTERACTIVE}

    def show(self, shell: InteractiveShell) -> None:
        """Show and close the open figures as pyplot's backend does at the end of a foreground cell."""
        if not self.figures:
            return
        # The notebook's: another cell may have made the first plot since this one has got its copy.
        callbacks = contextvars.Context().run(getattr, shell.events, "callbacks")
        ends = EventManager(shell, {_END: None})
        ends.callbacks[_END] = [call for call in callbacks[_END] if _is_of_matplotlib(call)]
        with _rendering:
            ends.trigger(_END)

    def commit(self) -> None:
        """Commit open figures, and changed settings, unless the notebook has changed the same ones meanwhile."""
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


def matplotlib_patches() -> PatchSet:
    """Patches of matplotlib's modules, each applied once the module is imported."""
    return PatchSet(
        [
            ModulePatches("matplotlib", _settings_patches),
            ModulePatches("matplotlib._pylab_helpers", lambda module: [Patch(module.Gcf, "figs", _FiguresByContext)]),
            ModulePatches(
                "matplotlib.backend_bases",
                lambda module: [Patch(module.FigureCanvasBase, "print_figure", _one_at_a_time)],
            ),
            ModulePatches("matplotlib_inline.backend_inline", lambda module: [Patch(module, "show", _ShowByContext)]),
        ]
    )


def foreground_ended() -> None:
    """Pass the figures that a foreground cell left open to later cells, which may close them."""
    figures = _notebook_figures()
    if figures is not None:
        figures.settle()


def _settings_patches(matplotlib: ModuleType) -> list[Patch]:
    plots = _plots_here()
    if plots is not None:  # the background cell itself is importing matplotlib
        plots.begin()
    return [Patch(matplotlib.rcParams, "__class__", _settings_class)]


def _one_at_a_time(print_figure: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(print_figure)
    def print_one(*args: Any, **kwargs: Any) -> Any:
        with _rendering:
            return print_figure(*args, **kwargs)

    return print_one


class _FiguresByContext(collections.abc.MutableMapping[Any, Any]):
    """pyplot's open figures: those of the background cell, else the notebook's."""

    def __init__(self, notebook: collections.OrderedDict[Any, Any]) -> None:
        self._notebook = notebook
        self.settled: dict[Any, Any] = {}
        """Figures that finished foreground cells have left open, as they do after `plt.ioff()`."""
        self.settle()

    def settle(self) -> None:
        """Note the figures that are open in the foreground now."""
        self.settled = dict(self._notebook)

    def of_notebook(self) -> dict[Any, Any]:
        """The figures that are open in the foreground now."""
        return dict(self._notebook)

    def take_unsettled(self) -> dict[Any, Any]:
        """Take out the figures that the running foreground cell has opened: they are another cell's now."""
        opened = {n: manager for n, manager in self.of_notebook().items() if self.settled.get(n) is not manager}
        for number in opened:
            del self._notebook[number]
        return opened

    def take_over(self, now: Mapping[Any, Any], before: Mapping[Any, Any]) -> None:
        """Open in the notebook the figures of `now`, and close those of `before` that are not among them."""
        if list(self._notebook.items()) == list(before.items()):
            self._notebook.clear()
            self._notebook.update(now)
            self.settle()
            return
        # The foreground has opened or closed figures meanwhile.
        for number in before.keys() - now.keys():
            if self._notebook.get(number) is before[number]:
                del self._notebook[number]
                self.settled.pop(number, None)
        for number, manager in now.items():
            if number not in before and number not in self._notebook:
                self._notebook[number] = self.settled[number] = manager

    def _figures(self) -> collections.OrderedDict[Any, Any]:
        plots = _plots_here()
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


def _inline_show() -> _ShowByContext | None:
    show = getattr(sys.modules.get("matplotlib_inline.backend_inline"), "show", None)
    return show if isinstance(show, _ShowByContext) else None


class _ShowByContext:
    """The inline backend's `show`, with flags per background cell."""

    def __init__(self, show: Callable[..., None]) -> None:
        functools.update_wrapper(self, show)
        self._show = show

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._show(*args, **kwargs)

    def flags_of_notebook(self) -> dict[str, Any]:
        """The flags of the foreground."""
        return {"_draw_called": self._show._draw_called, "_to_draw": list(self._show._to_draw)}  # type: ignore[attr-defined]

    def take_flags(self) -> dict[str, Any]:
        """Take the flags of the foreground, which then draws nothing at the end of its cell."""
        flags = self.flags_of_notebook()
        self._show._draw_called = False  # type: ignore[attr-defined]
        self._show._to_draw = []  # type: ignore[attr-defined]
        return flags

    def __getattribute__(self, name: str) -> Any:
        if name not in _DRAW_FLAGS:
            return super().__getattribute__(name)
        plots = _plots_here()
        return getattr(self._show, name) if plots is None else plots.flags[name]

    def __setattr__(self, name: str, value: Any) -> None:
        plots = _plots_here()
        if name not in _DRAW_FLAGS:
            super().__setattr__(name, value)
        elif plots is None:
            setattr(self._show, name, value)
        else:
            plots.flags[name] = value


def _is_of_matplotlib(callback: Any) -> bool:
    return getattr(callback, "__module__", None) in ("matplotlib.pyplot", "matplotlib_inline.backend_inline")


def _settings_class(plain: type[Any]) -> type[Any]:
    base: Any = plain

    class RcParams(base):
        """matplotlib's settings: those of the background cell, else the notebook's."""

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
                settings.update(dict.items(other) if isinstance(other, base) and other is not self else other)
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
    plots = _plots_here()
    return None if plots is None or params is not sys.modules["matplotlib"].rcParams else plots.settings
