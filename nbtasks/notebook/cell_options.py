"""The options of `%%bgtask`, and the text that lists them."""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nbtasks.notebook.options import explained

__all__ = ["help_text", "parsed", "unquoted"]


@magic_arguments("%bgtask")
@argument("name", nargs="?", help="name of the task; the notebook gets a variable of that name, if it can be one")
@argument("--backend", help="thread, loop, process or dask; default: loop if the cell awaits, else thread")
@argument("--memory", help="memory limit of a cell with --backend process or dask: 500M, 4G")
@argument("--kernel", help="run the cell in another installed kernel, of another environment or language")
@argument("--lane", default="default", help="lane of the task; a lane limits how many tasks run at once")
@argument("--priority", default="0", help="a whole number; tasks with a higher one start first")
@argument("--after", help="names of tasks that must complete before this one starts: a,b")
@argument("--timeout", help="time limit of one attempt: 30s, 5m, 1h30m")
@argument("--retries", help="how often a failed attempt is repeated")
@argument(
    "--if-running", default="error", help="if a task of that name is still running: error, skip, replace or queue"
)
@argument("--every", help="run the cell repeatedly, at this interval: 30s, 5m, 1h30m")
@argument("--cron", help='run the cell at these times: "*/5 * * * *", "0 8 * * 1-5", @hourly')
@argument("--now", action="store_true", help="with --cron: run for the first time at once, as --every does")
@argument("--tz", help="time zone of --cron, such as Europe/Paris; default: that of the machine")
@argument("--max-concurrent", help="how many runs of the schedule may overlap; default: 1")
@argument("--for", dest="sweep", action="append", help="a run for each value, and each combination: C=0.1,1,10")
@argument("--shared", action="store_true", help="use the notebook's variables directly, without a snapshot")
@argument("--atomic", action="store_true", help="commit nothing if the cell fails or is cancelled")
@argument("--quiet", action="store_true", help="show no panel")
@argument("--wait", action="store_true", help="block until the task is finished")
@argument("--detach", action="store_true", help="a program that runs the notebook does not wait for it at the end")
@argument("--notify", action="store_true", help="notify when it finishes, if the page is not visible")
@argument("--help", action="store_true", help="show this help")
def _bgtask() -> None:
    """Run the cell as a background task."""


if getattr(_bgtask.parser, "color", False):  # of Python 3.14 and later: its text is no terminal's
    _bgtask.parser.color = False


def help_text() -> str:
    """The text that lists the options."""
    return str(_bgtask.parser.format_help())


def parsed(line: str) -> argparse.Namespace:
    """The options on a magic's line, without the quotes that keep the words of a value together."""
    try:
        options: argparse.Namespace = parse_argstring(_bgtask, line)
    except UsageError as error:
        raise UsageError(f"%%bgtask: {explained(str(error), _bgtask.parser, '%%bgtask?')}") from None
    for name, value in vars(options).items():
        if isinstance(value, str):
            setattr(options, name, unquoted(value))
    return options


def unquoted(text: str) -> str:
    """A value without the quotes that keep its words together on a magic's line."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
