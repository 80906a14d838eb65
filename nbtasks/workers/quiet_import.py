"""Quiet imports for names that come from another process, where they have printed.

An import may take many seconds: `imports_reported` tells which package it is.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

__all__ = ["imported_quietly", "imports_reported"]

REPORT_SECONDS = 1.0
"""How long imports take before they are reported."""
_SHORT_SECONDS = 0.1
"""After that, an import of less than this is not reported."""


def imported_quietly(name: str) -> ModuleType:
    """The module; if it is imported now, what it prints is dropped."""
    if name in sys.modules:
        return sys.modules[name]
    # Not a StringIO, which has no encoding: sympy asks for it as it is imported, and decides for ASCII.
    nowhere = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    reported = contextlib.nullcontext() if _report is None else _report.importing(name)
    with reported, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return importlib.import_module(name)


@contextlib.contextmanager
def imports_reported(report: Callable[[str], None]) -> Iterator[None]:
    """Call `report` with the package of each import that the user waits for, and with "" once it is there.

    It is called on threads of its own. Nothing is reported in the first second.
    """
    global _report
    before, _report = _report, _Report(report)
    try:
        yield
    finally:
        _report = before


class _Report:
    """Reports imports from a timer.

    `_lock` guards which import is the current one, and the order of reports.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._from = time.monotonic() + REPORT_SECONDS
        self._lock = threading.Lock()
        self._current: object = None
        self._is_reported = False

    @contextlib.contextmanager
    def importing(self, name: str) -> Iterator[None]:
        """Report the package of the module while it is imported, if that takes long."""
        current = self._current = object()
        timer = threading.Timer(
            max(_SHORT_SECONDS, self._from - time.monotonic()), self._begin, (current, name.partition(".")[0])
        )
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._current = None
                if self._is_reported:
                    self._is_reported = False
                    self._report("")

    def _begin(self, current: object, package: str) -> None:
        with self._lock:
            if self._current is current:
                self._is_reported = True
                self._report(package)


_report: _Report | None = None
