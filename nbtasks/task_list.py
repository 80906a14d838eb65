"""`TaskList`: tasks that are awaited, read and shown together."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, overload

from nbtasks import validation
from nbtasks.exceptions import MissingPackageError
from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["Sweep", "TaskList", "first_unsuccessful"]


class TaskList(Sequence[Task]):
    """Tasks in order, such as those of `manager.map`.

    Awaiting it waits for all and gives their `results`, whether or not some of them fail.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = list(tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        return TaskList(self._tasks[index]) if isinstance(index, slice) else self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        counts = Counter(task.state for task in self._tasks)
        states = ", ".join(f"{counts[state]} {state.value}" for state in TaskState if counts[state])
        return f"<{type(self).__name__}: {states or 'empty'}>"

    def __await__(self) -> Generator[Any, Any, list[Any]]:
        return self._gather().__await__()

    @property
    def done(self) -> bool:
        """Whether all are finished."""
        return all(task.done for task in self._tasks)

    @property
    def results(self) -> list[Any]:
        """Their results in order; None for those that have not completed, of which `errors` tells the reason."""
        return [task.result if task.state is TaskState.COMPLETED else None for task in self._tasks]

    @property
    def errors(self) -> dict[int, BaseException]:
        """The exceptions of those that failed, by position."""
        return {number: task.exception for number, task in enumerate(self._tasks) if task.exception is not None}

    def wait(self, timeout: float | timedelta | None = None) -> list[Any]:
        """Block until all are finished, at most `timeout` seconds; returns `results`. Raises TimeoutError."""
        seconds = validation.wait_timeout(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        for task in self._tasks:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                task.wait(left)
            except BaseException:
                if not task.done:
                    raise
        return self.results

    def cancel(self) -> int:
        """Cancel those that are not finished; returns how many."""
        return sum(task.cancel() for task in self._tasks if not task.done)

    async def _gather(self) -> list[Any]:
        for task in self._tasks:
            if task.done:
                continue
            try:
                await task
            except BaseException:
                if not task.done:  # the wait itself was cancelled
                    raise
        return self.results


class Sweep(TaskList):
    """The tasks of `%%bgtask --for`: one for each combination of values.

    `retry` runs tasks again, as new ones; only called on the main thread.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        combinations: Sequence[Mapping[str, Any]],
        retry: Callable[[Sequence[Task]], Sequence[Task]],
    ) -> None:
        super().__init__(tasks)
        self.combinations = [dict(values) for values in combinations]
        """The values of each task, by name."""
        self._retry = retry

    @property
    def rows(self) -> list[dict[str, Any]]:
        """For each task its values, `result`, `state` and `duration` in seconds."""
        return [
            {
                **values,
                "result": task.result if task.state is TaskState.COMPLETED else None,
                "state": task.state.value,
                "duration": _seconds(task),
            }
            for values, task in zip(self.combinations, self._tasks, strict=True)
        ]

    @property
    def frame(self) -> Any:
        """The `rows` as a pandas DataFrame. Raises MissingPackageError without pandas."""
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise MissingPackageError(
                "a frame needs pandas: pip install pandas; `rows` has the same as dicts"
            ) from None
        return pandas.DataFrame(self.rows)

    def retry_failed(self) -> int:
        """Run those again that failed or were cancelled, in their places; returns how many."""
        failed = [
            number for number, task in enumerate(self._tasks) if task.state in (TaskState.FAILED, TaskState.CANCELLED)
        ]
        again = self._retry([self._tasks[number] for number in failed])
        for number, task in zip(failed, again, strict=True):
            self._tasks[number] = task
        return len(failed)


def _seconds(task: Task) -> float | None:
    if task.started_at is None or task.completed_at is None:
        return None
    return (task.completed_at - task.started_at).total_seconds()


def first_unsuccessful(tasks: Sequence[Task]) -> Task | None:
    """The first of finished tasks that failed, else that was cancelled; None if all have completed."""
    unsuccessful = [task for task in tasks if task.state is not TaskState.COMPLETED]
    failed = [task for task in unsuccessful if task.state is TaskState.FAILED]
    return next(iter([*failed, *unsuccessful]), None)
