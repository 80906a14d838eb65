"""What a user may set by `%config BackgroundTasks...` or in a configuration file. Knows nothing of who reads it."""

from __future__ import annotations

from traitlets import Bool, Float
from traitlets.config import Configurable

__all__ = ["BackgroundTasks"]


class BackgroundTasks(Configurable):
    """Settings of nbtasks in a notebook."""

    keep_kernel_alive = Bool(
        True,
        help="While a task lives or a schedule is on, tell the server about once a minute that the kernel is in use, "
        "so that it is not culled as idle.",
    ).tag(config=True)

    switch_interval = Float(
        0.001,
        min=1e-5,
        help="Seconds after which a background cell that computes in a thread lets the foreground run. The "
        "interpreter's own value, mostly 0.005, comes back when the last one ends.",
    ).tag(config=True)

    notify_after = Float(
        None,
        min=0.0,
        allow_none=True,
        help="Where nobody looks at the page, give notice of the end of each task that ran so many seconds or longer. "
        "None: only of cells that were launched with --notify.",
    ).tag(config=True)

    notify_sound = Bool(True, help="Whether a notice has a tone, another one for a failure.").tag(config=True)
