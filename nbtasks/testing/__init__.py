"""Helpers for tests: a fake clock, an event recorder, a check of backends."""

from __future__ import annotations

from nbtasks.testing.clock import FakeClock
from nbtasks.testing.conformance import BACKEND_CHECKS, check_backend
from nbtasks.testing.recorder import EventRecorder

__all__ = ["BACKEND_CHECKS", "EventRecorder", "FakeClock", "check_backend"]
