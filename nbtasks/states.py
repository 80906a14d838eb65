"""The states of a task, and the table of transitions between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from nbtasks.exceptions import IllegalTransitionError, UnknownStateError, unknown

__all__ = ["FINAL_STATES", "LIVE_STATES", "TRANSITIONS", "TaskState", "check_transition", "task_state"]


class TaskState(StrEnum):
    """The state of a task. Compares equal to its string."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """In history only: the kernel died while the task ran."""

    # Hashed as the string that it equals: the hash of Enum is a Python function, called at every look into a dict.
    __hash__ = str.__hash__

    @property
    def is_final(self) -> bool:
        """Whether a task in this state is finished."""
        return self in FINAL_STATES


LIVE_STATES = frozenset({TaskState.PENDING, TaskState.RUNNING})
FINAL_STATES = frozenset(TaskState) - LIVE_STATES

TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    # Failed without an attempt: an error of nbtasks itself, which leaves nothing that could start it.
    TaskState.PENDING: frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.CANCELLED}),
    # Back to pending: a retry is a new attempt of the same task.
    TaskState.RUNNING: frozenset(
        {TaskState.PENDING, TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.LOST}
    ),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.LOST: frozenset(),
}


def check_transition(current: TaskState, target: TaskState) -> TaskState:
    """`target`, if the table allows it after `current`; raises IllegalTransitionError otherwise."""
    if target in TRANSITIONS[current]:
        return target
    allowed = ", ".join(sorted(TRANSITIONS[current])) or "none, it is final"
    raise IllegalTransitionError(f"a task cannot go from {current.value} to {target.value}; allowed: {allowed}")


def task_state(name: str) -> TaskState:
    """The state called `name`; raises UnknownStateError."""
    try:
        return TaskState(name)
    except ValueError:
        raise UnknownStateError(unknown("task state", name, TaskState)) from None
