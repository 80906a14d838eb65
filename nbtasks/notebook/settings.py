"""Settings in a notebook: `%config BackgroundTasks`, and the history file."""

from __future__ import annotations

import os
from pathlib import Path

from traitlets import Bool, Float, Int
from traitlets.config import Configurable

__all__ = ["BackgroundTasks", "history_path"]

_OFF = ("", "0", "off", "no", "none")


class BackgroundTasks(Configurable):
    """Settings of nbtasks in a notebook."""

    keep_kernel_alive = Bool(
        True,
        help="While a task is active or a schedule is on, tell the server about once a minute that the kernel is in "
        "use, so that it is not culled as idle.",
    ).tag(config=True)

    switch_interval = Float(
        0.001,
        min=1e-5,
        help="Seconds after which a background cell that computes in a thread lets the foreground run. The "
        "interpreter's own value, usually 0.005, is restored when the last such cell finishes.",
    ).tag(config=True)

    keep_finished = Int(
        1_000,
        min=0,
        allow_none=True,
        help="How many completed tasks, and as many cancelled ones, are kept with their output; None: all.",
    ).tag(config=True)

    replace_timeout = Float(
        30.0,
        min=0.0,
        help="Seconds after which a cell with --if-running replace is cancelled, if the earlier run has not stopped.",
    ).tag(config=True)

    wait_at_end = Bool(
        True,
        help="When a program such as nbclient or papermill runs the notebook, the last cell waits for all tasks that "
        "were not launched with --detach, and fails with one that failed.",
    ).tag(config=True)

    exit_grace = Float(
        2.0,
        min=0.0,
        help="Seconds that unfinished cells may still run when a program such as nbclient or papermill ends the "
        "kernel, after the last cell. It kills a kernel that takes longer than two or three seconds.",
    ).tag(config=True)

    notify_after = Float(
        None,
        min=0.0,
        allow_none=True,
        help="Notify when a task finishes that ran this many seconds or longer, if the page is not visible. "
        "None: only for cells that were launched with --notify.",
    ).tag(config=True)

    offer_after = Float(
        30.0,
        min=0.0,
        allow_none=True,
        help="Seconds after which JupyterLab offers, below a cell that is still running, to send it to the "
        "background. None: never.",
    ).tag(config=True)

    notify_sound = Bool(True, help="Whether notifications play a tone; failures have another one.").tag(config=True)


def history_path() -> Path | None:
    """The history file: that of NBTASKS_HISTORY, or one in Jupyter's data folder; None if it is off."""
    value = os.environ.get("NBTASKS_HISTORY")
    if value is not None:
        return None if value.strip().lower() in _OFF else Path(value)
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "nbtasks" / "history.sqlite"
