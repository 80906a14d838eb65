"""Fixtures for actions: a manager, and functions that run an action as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks.callables import is_async


@pytest.fixture
def manager() -> Iterator[TaskManager]:
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def start(manager) -> Callable[..., Task]:
    """Starts an action with these arguments as a task."""

    def start(action: Callable[..., Any], *args: Any, **options: Any) -> Task:
        work: Any = partial(action, **options)
        if args and is_async(action):

            async def work(task: Task) -> Any:
                return await action(task, *args, **options)

        elif args:

            def work(task: Task) -> Any:
                return action(task, *args, **options)

        return manager.create_task(getattr(action, "__name__", "action"), work)

    return start


@pytest.fixture
def outcome(start) -> Callable[..., Any]:
    """Runs an action as a task to its end; its result, or what it raises."""
    return lambda action, *args, **options: start(action, *args, **options).wait(60)
