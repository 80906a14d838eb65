"""Queries of `nbtasks run` in the kernel: tasks and schedules, as plain values.

Evaluated in the kernel, as user expressions of empty requests.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtasks.task import Task

__all__ = ["state"]


def state() -> dict[str, Any]:
    """Whether the extension is loaded, how much is active, and the names of tasks whose newest run failed.

    Detached tasks, which are not waited for, are unfinished but not active.
    """
    loaded = "nbtasks.notebook.extension" in sys.modules
    if "nbtasks.manager" not in sys.modules:
        return {"loaded": loaded, "active": 0, "unfinished": 0, "schedules": 0, "failed": []}
    from nbtasks.manager import get_manager

    manager = get_manager()
    newest = {task.name: task.state.value for task in manager.list_tasks()}
    return {
        "loaded": loaded,
        "active": sum(not _is_detached(task) for task in manager.active_tasks),
        "unfinished": len(manager.active_tasks),
        "schedules": sum(recurring.enabled for recurring in manager.list_recurring_tasks()),
        "failed": [name for name, state in newest.items() if state == "failed"],
    }


def _is_detached(task: Task) -> bool:
    cells = sys.modules.get("nbtasks.notebook.cells.cell_task")
    return cells is not None and isinstance(task, cells.CellTask) and task.detached
