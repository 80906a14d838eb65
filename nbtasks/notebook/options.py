"""Options of the magics: errors that name the nearest option and where help is."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn

from IPython.core.error import UsageError

__all__ = ["OptionParser", "explained"]


class OptionParser(argparse.ArgumentParser):
    """The options of one command of `%bgtask`; an error is one line in the cell."""

    def __init__(self, command: str) -> None:
        super().__init__(f"%bgtask {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the message as an error of the cell."""
        raise UsageError(f"{self.prog}: {explained(message, self, '%bgtask help')}")


def explained(message: str, parser: argparse.ArgumentParser, help_command: str) -> str:
    """The message of a parser with the nearest option to an unknown one, and the command that shows help."""
    unknown = re.search(r"^unrecognized arguments:.*?--([^\s=]+)", message)
    known = re.findall(r"--([a-z][a-z-]*)", parser.format_usage())
    near = difflib.get_close_matches(unknown[1], known, n=1) if unknown else []
    hint = f"did you mean --{near[0]}? " if near else ""
    return f"{message}; {hint}{help_command} lists the options"
