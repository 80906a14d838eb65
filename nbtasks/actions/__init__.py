"""Ready-made work: coroutine functions (and one plain function) that take the task first, and what they return.

Importing this pulls in none of the packages that the actions use: each imports its own when it is called.
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
