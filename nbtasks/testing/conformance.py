"""`check_backend`: conformance check of backends, alone and under a manager."""

from __future__ import annotations

import asyncio
import contextvars
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopThread
from nbtasks.exceptions import InvalidValueError, TaskCancelledError, TaskTimeoutError, unknown
from nbtasks.manager import TaskManager
from nbtasks.retry import Retry
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task
from nbtasks.testing.recorder import PATIENCE, EventRecorder
from nbtasks.testing.works import COROUTINES, ENDLESS, FUNCTIONS

__all__ = ["BACKEND_CHECKS", "check_backend"]

_TOO_LONG = 0.3
"""Timeout in seconds of work that takes longer."""


def check_backend(
    make_backend: Callable[[], Backend],
    *,
    coroutines: bool = False,
    patience: float = PATIENCE,
    rounds: int = 20,
    checks: Iterable[str] | None = None,
) -> None:
    """Check that a backend behaves as `nbtasks.backends.base.Backend` demands; raise AssertionError.

    `make_backend` makes a new backend for each check, which closes it. `coroutines`: its work is coroutine functions,
    not plain ones. `patience`: timeout of each step in seconds, the start of a worker included. `rounds`: how often
    checks that depend on timing are repeated. `checks`: some of `BACKEND_CHECKS`, by default all. They can be the cases
    of a parametrized test::

        @pytest.mark.parametrize("check", BACKEND_CHECKS)
        def test_my_backend(check):
            check_backend(MyBackend, checks=[check])

    The work can be imported from `nbtasks.testing.works` in any process with nbtasks. Its arguments and results are
    small. It uses files in a temporary folder of this machine, and calls `current_task()` and `track`.
    """
    for name in BACKEND_CHECKS if checks is None else checks:
        if name not in _CHECKS:
            raise InvalidValueError(unknown("check of backends", name, _CHECKS))
        loops = LoopThread()
        backend = make_backend()
        try:
            with tempfile.TemporaryDirectory(prefix="nbtasks-check-") as folder:
                works = COROUTINES if coroutines else FUNCTIONS
                _CHECKS[name](_Trial(backend, loops, works, Path(folder), patience, rounds))
        finally:
            backend.close()
            loops.close(patience)


# -- alone --------------------------------------------------------------------------------------------------------


def _results(trial: _Trial) -> None:
    """The return value of the work is the result."""
    for value in (7, None, "text"):
        outcome = trial.run("echo", value)
        assert outcome.state is TaskState.COMPLETED, f"work that returned {value!r} ended as {outcome}"
        assert outcome.result == value, f"work that returned {value!r} gave {outcome.result!r}"


def _errors(trial: _Trial) -> None:
    """An exception of the work, even SystemExit, is its error, and affects no other work."""
    outcome = trial.run("fail", "no such luck")
    assert outcome.state is TaskState.FAILED, f"work that raised ended as {outcome}"
    assert isinstance(outcome.exception, ValueError), f"the ValueError of the work became {outcome.exception!r}"
    assert "no such luck" in str(outcome.exception), f"the error of the work became {outcome.exception!r}"
    outcome = trial.run("leave")
    assert outcome.state is TaskState.FAILED, f"work that raised SystemExit ended as {outcome}"
    outcome = trial.run("echo", 1)
    assert outcome.result == 1, f"after SystemExit in one work the next one ended as {outcome}"


def _interrupts(trial: _Trial) -> None:
    """An interrupt stops the work of its attempt, and no other."""
    attempt = trial.start("linger", ENDLESS)
    assert not attempt.over.wait(_TOO_LONG), f"work that takes long was finished at once: {attempt.outcomes}"
    trial.backend.interrupt(attempt)
    outcome = attempt.wait(trial.patience)
    assert outcome.state is TaskState.CANCELLED, f"interrupted work ended as {outcome}"
    following = trial.start("linger", _TOO_LONG)
    trial.backend.interrupt(attempt)  # has no effect: it is finished
    outcome = following.wait(trial.patience)
    assert outcome.result == "not interrupted", f"an interrupt of finished work hit the next one: {outcome}"


def _early_interrupts(trial: _Trial) -> None:
    """An interrupt right after the start, whether the work has begun or not, stops it."""
    for _ in range(trial.rounds):
        attempt = trial.start("linger", ENDLESS)
        trial.backend.interrupt(attempt)
        outcome = attempt.wait(trial.patience)
        assert outcome.state is TaskState.CANCELLED, f"an interrupt right after the start was lost: {outcome}"


def _many(trial: _Trial) -> None:
    """Many attempts start without waiting for each other, and each finishes once."""
    start = time.monotonic()
    attempts = [trial.start("echo", number) for number in range(trial.rounds)]
    spent = time.monotonic() - start
    results = [attempt.wait(trial.patience).result for attempt in attempts]
    assert results == list(range(trial.rounds)), f"{trial.rounds} at once gave {results}"
    assert spent < trial.patience, f"starting {trial.rounds} took {spent:g} s: `start` must not wait for the work"
    for attempt in attempts:
        assert len(attempt.outcomes) == 1, f"finished was called {len(attempt.outcomes)} times: {attempt.outcomes}"


def _closing(trial: _Trial) -> None:
    """A backend can be closed more than once."""
    trial.run("echo", 1)
    trial.backend.close()
    trial.backend.close()


# -- under a manager ----------------------------------------------------------------------------------------------


def _tasks(trial: _Trial) -> None:
    """Tasks run, complete and fail, with events in order."""
    with trial.manager() as manager, EventRecorder(manager) as recorder:
        task = trial.task(manager, "echo", 7)
        assert task.wait(trial.patience) == 7, f"{task!r} gave {task.result!r}"
        failing = trial.task(manager, "fail", "no such luck")
        manager.wait(failing, timeout=trial.patience)
        assert failing.state is TaskState.FAILED, f"work that raised: {failing!r}"
        assert failing.error == "ValueError: no such luck", f"the error of the work became {failing.error!r}"
        recorder.wait_for("failed", failing, timeout=trial.patience)
        recorder.check_legal()
        events = [event.value for event in recorder.of(task)]
        assert events == ["created", "started", "completed"], f"the events of a task were {events}"


def _progress(trial: _Trial) -> None:
    """The progress that the work reports is visible while it runs."""
    go = trial.folder / "go"
    with trial.manager() as manager, EventRecorder(manager, ["progress"]) as recorder:
        task = trial.task(manager, "report", str(go))
        end = time.monotonic() + trial.patience
        while (task.progress, task.body) != (50.0, "half way"):
            left = end - time.monotonic()
            assert left > 0, f"half way, {task!r} showed the progress {task.progress!r} and the body {task.body!r}"
            assert not task.done, f"work that waits half way was finished: {task!r}, {task.error}"
            time.sleep(0.01)
        recorder.wait_for("progress", task, timeout=trial.patience)
        go.touch()
        assert task.wait(trial.patience) == "reported", f"work that reports its progress gave {task.result!r}"
        assert task.progress == 100.0, f"a completed task has the progress {task.progress}"


def _timeouts(trial: _Trial) -> None:
    """An attempt that exceeds the timeout is stopped, and fails."""
    with trial.manager() as manager:
        task = trial.task(manager, "linger", ENDLESS, timeout=_TOO_LONG)
        manager.wait(task, timeout=trial.patience)
        assert isinstance(task.exception, TaskTimeoutError), f"work that took too long: {task!r}, {task.error}"


def _retries(trial: _Trial) -> None:
    """A failed attempt is followed by another."""
    with trial.manager() as manager:
        task = trial.task(manager, "fail_first", str(trial.folder / "seen"), retry=Retry(attempts=2, delay=0.01))
        manager.wait(task, timeout=trial.patience)
        assert (task.state, task.attempts) == (TaskState.COMPLETED, 2), f"{task!r} after {task.attempts} attempts"
        assert task.result == "the second time", f"the second attempt gave {task.result!r}"


def _slow_cancels(trial: _Trial) -> None:
    """A cancelled task is `cancelling` until its work has really stopped."""
    inside, go = trial.folder / "inside", trial.folder / "go"
    with trial.manager() as manager:
        task = trial.task(manager, "clean_up_slowly", str(inside), str(go))
        trial.until_there(inside, task)
        assert task.cancel(), f"{task!r} could not be cancelled"
        time.sleep(_TOO_LONG)
        assert task.cancelling, f"while its work cleaned up after a cancel, it was {task!r}"
        go.touch()
        manager.wait(task, timeout=trial.patience)
        assert task.state is TaskState.CANCELLED, f"once its work had cleaned up after a cancel, it was {task!r}"
        try:
            task.wait(trial.patience)
        except TaskCancelledError:
            return
        raise AssertionError("a wait for a cancelled task raised nothing")


def _swallowed_cancels(trial: _Trial) -> None:
    """Work that ignores its cancellation and returns is completed."""
    inside = trial.folder / "inside"
    with trial.manager() as manager:
        task = trial.task(manager, "ignore_interrupt", str(inside))
        trial.until_there(inside, task)
        task.cancel()
        manager.wait(task, timeout=trial.patience)
        assert task.state is TaskState.COMPLETED, f"work that ignored its cancellation: {task!r}, {task.error}"
        assert task.result == "finished all the same", f"work that ignored its cancellation gave {task.result!r}"


_CHECKS: dict[str, Callable[[_Trial], None]] = {
    check.__name__.strip("_"): check
    for check in (
        *(_results, _errors, _interrupts, _early_interrupts, _many, _closing),
        *(_tasks, _progress, _timeouts, _retries, _slow_cancels, _swallowed_cancels),
    )
}
BACKEND_CHECKS = tuple(_CHECKS)
"""The names of the checks of `check_backend`."""


class _Trial:
    """A backend that is checked, and ways to run work on it."""

    def __init__(
        self,
        backend: Backend,
        loops: LoopThread,
        works: dict[str, Callable[..., Any]],
        folder: Path,
        patience: float,
        rounds: int,
    ) -> None:
        self.backend = backend
        self.folder = folder
        self.patience = patience
        self.rounds = rounds
        self._loop: asyncio.AbstractEventLoop = loops.loop()
        self._works = works

    def start(self, work: str, *args: Any) -> _WatchedAttempt:
        """Start work on the backend without a manager."""
        task = Task(name=work, backend=self.backend.name)
        context = contextvars.copy_context()
        attempt = _WatchedAttempt(task, self._works[work], args, self.backend, context, self._loop)
        self.backend.start(attempt)
        return attempt

    def run(self, work: str, *args: Any) -> Outcome:
        return self.start(work, *args).wait(self.patience)

    def manager(self) -> TaskManager:
        """Return a new manager that has the backend."""
        manager = TaskManager(loop=self._loop)
        manager.backends[self.backend.name] = self.backend
        return manager

    def task(self, manager: TaskManager, work: str, *args: Any, **options: Any) -> Task:
        return manager.create_task(work, partial(self._works[work], *args), backend=self.backend.name, **options)

    def until_there(self, path: Path, task: Task) -> None:
        """Wait until the work has created this file."""
        end = time.monotonic() + self.patience
        while not path.exists():
            assert not task.done, f"work that should be running was finished: {task!r}, {task.error}"
            assert time.monotonic() < end, f"after {self.patience:g} s the work of {task!r} had not begun"
            time.sleep(0.01)


class _WatchedAttempt(Attempt):
    """An attempt that records its outcome."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.outcomes: list[Outcome] = []
        self.over = threading.Event()

    def finished(self, outcome: Outcome) -> Attempt | None:
        self.outcomes.append(outcome)
        self.over.set()
        return None

    def wait(self, patience: float) -> Outcome:
        assert self.over.wait(patience), f"{self.task.name!r} was never reported as finished"
        return self.outcomes[0]
