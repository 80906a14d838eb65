"""Helpers for tests of code that uses nbtasks, and of backends: a clock that is driven, a recorder of events, a check.

Must not be needed by anything that is not a test.
"""

from __future__ import annotations

from nbtasks.testing.clock import FakeClock
from nbtasks.testing.conformance import BACKEND_CHECKS, check_backend
from nbtasks.testing.recorder import EventRecorder

__all__ = ["BACKEND_CHECKS", "EventRecorder", "FakeClock", "check_backend"]
