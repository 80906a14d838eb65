"""Tasks, lanes and schedules as JSON-safe dicts for the web interface."""

from __future__ import annotations

from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task, jsonable

__all__ = ["TASK_FIELDS", "lane_records", "output_tail", "recurring_record", "task_record"]

TASK_FIELDS = (
    "id",
    "name",
    "state",
    "priority",
    "lane",
    "backend",
    "progress",
    "heading",
    "body",
    "error",
    "attempts",
    "parent_id",
    "tags",
    "after",
    "timeout",
    "created_at",
    "started_at",
    "completed_at",
    "cancel_requested_at",
)
"""The attributes of a task that are sent, and by which a list can be filtered."""


def task_record(task: Task) -> dict[str, Any]:
    """The fields of a task without its result, which may be large."""
    record = {name: jsonable(getattr(task, name)) for name in TASK_FIELDS}
    record["task_type"] = type(task).__name__
    return record


def output_tail(task: Task, characters: int) -> str:
    """The last characters that the task wrote; empty if it is no cell."""
    details = task.cell_details()
    return "" if details is None else details.output.ending(characters)


def lane_records(manager: TaskManager) -> list[dict[str, Any]]:
    """The lanes with their limits, and how many tasks are running and pending in them."""
    return [
        {"name": name, "limit": lane.limit, "running": lane.running, "pending": lane.pending}
        for name, lane in manager.lanes.items()
    ]


def recurring_record(recurring: RecurringTask) -> dict[str, Any]:
    """The record of a recurring task."""
    return recurring.as_dict()
