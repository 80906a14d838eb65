"""Ready-made actions: downloads, health checks, reminders, searches, notebooks.

Each is a function that takes the task as its first argument. It imports the packages that it uses when it is called.
"""

from __future__ import annotations

from nbtasks.actions.download import download_file
from nbtasks.actions.health import HealthCheck, HealthSummary, periodic_health_check
from nbtasks.actions.reminder import reminder_timer
from nbtasks.actions.run_notebook import run_notebook
from nbtasks.actions.search import SearchAnswer, batch_web_search

__all__ = [
    "HealthCheck",
    "HealthSummary",
    "SearchAnswer",
    "batch_web_search",
    "download_file",
    "periodic_health_check",
    "reminder_timer",
    "run_notebook",
]
