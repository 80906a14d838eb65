"""Queries of `nbtasks run` in the kernel: tasks and schedules, as plain values.

Evaluated in the kernel, as user expressions of empty requests.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["state"]


def state() -> dict[str, Any]:
    """Whether the extension is loaded, how much is active, and the names of tasks whose newest run failed."""
    loaded = "nbtasks.notebook.extension" in sys.modules
    if "nbtasks.manager" not in sys.modules:
        return {"loaded": loaded, "active": 0, "schedules": 0, "failed": []}
    from nbtasks.manager import get_manager

    manager = get_manager()
    newest = {task.name: task.state.value for task in manager.list_tasks()}
    return {
        "loaded": loaded,
        "active": len(manager.active_tasks),
        "schedules": sum(recurring.enabled for recurring in manager.list_recurring_tasks()),
        "failed": [name for name, state in newest.items() if state == "failed"],
    }
