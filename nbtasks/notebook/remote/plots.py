"""Plot settings and open figures of a cell in another process.

They are taken on one side and put on the other. matplotlib is imported only where the other side had it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from nbtasks.post_import import after_import

__all__ = ["put_drawing", "put_figures", "take_drawing", "take_figures"]

_INLINE = "matplotlib_inline.backend_inline"
_WITHOUT_WINDOWS = frozenset({"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"})
_OF_INLINE = ("figure_formats", "print_figure_kwargs", "close_figures")


def take_drawing() -> dict[str, Any]:
    """The settings of pyplot and of the inline backend, and the registered colormaps.

    A backend that needs a window is replaced by the inline one. seaborn registers colormaps when it is imported.
    """
    taken: dict[str, Any] = {}
    config = sys.modules.get("matplotlib_inline.config")
    if config is not None and config.InlineBackend.initialized():
        inline = config.InlineBackend.instance()
        taken["inline"] = {name: getattr(inline, name) for name in _OF_INLINE}
    colormaps: Any = getattr(sys.modules.get("matplotlib"), "colormaps", None)
    builtin = getattr(colormaps, "_builtin_cmaps", None)
    if builtin is not None:
        taken["colormaps"] = {name: colormaps[name] for name in colormaps if name not in builtin}
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None and getattr(pyplot, "_backend_mod", None) is not None:
        backend = pyplot.get_backend()
        taken["backend"] = backend if backend.lower() in _WITHOUT_WINDOWS else f"module://{_INLINE}"
        taken["interactive"] = pyplot.isinteractive()
    return taken


def put_drawing(shell: Any, taken: dict[str, Any]) -> None:
    """Apply these settings."""
    if "inline" in taken:
        from matplotlib_inline.config import InlineBackend

        inline = InlineBackend.instance(parent=shell)
        for name, value in taken["inline"].items():
            if getattr(inline, name) != value:
                setattr(inline, name, value)
    if taken.get("colormaps"):
        after_import("matplotlib", functools.partial(_register, taken["colormaps"]))
    if "backend" in taken:
        import matplotlib.pyplot as plt

        now = plt.get_backend() if getattr(plt, "_backend_mod", None) is not None else ""
        if not now or _WITHOUT_WINDOWS & {now.lower(), taken["backend"].lower()}:
            plt.switch_backend(taken["backend"])
        if plt.isinteractive() != taken["interactive"]:
            (plt.ion if taken["interactive"] else plt.ioff)()


def _register(colormaps: dict[str, Any], matplotlib: Any) -> None:
    for name, colormap in colormaps.items():
        if name not in matplotlib.colormaps:
            matplotlib.colormaps.register(colormap, name=name)


def take_figures() -> list[tuple[int, Any]]:
    """The open figures with their numbers, the current one last."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return [] if helpers is None else [(number, one.canvas.figure) for number, one in list(helpers.Gcf.figs.items())]


def put_figures(taken: list[tuple[int, Any]]) -> None:
    """Leave only these figures open. (matplotlib opens a figure that is unpickled, under a new number.)"""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None:
        return
    arrived = {id(one.canvas.figure): one for one in helpers.Gcf.figs.values()}
    for number in list(helpers.Gcf.figs):
        del helpers.Gcf.figs[number]
    for number, figure in taken:
        manager = arrived[id(figure)]
        manager.num = number
        helpers.Gcf.figs[number] = manager
    if _INLINE in sys.modules:  # it has listed them as new figures to be shown
        show = sys.modules[_INLINE].show
        show._to_draw, show._draw_called = [], False
