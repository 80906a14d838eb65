"""Helpers for tests of code that uses nbtasks, and of backends: a clock that is driven, a recorder of events, a check.

Must not be needed by anything that is not a test.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopThread
from nbtasks.clock import Timer
from nbtasks.events import ALL_EVENTS, EventType
from nbtasks.exceptions import WaitTimeoutError
from nbtasks.manager import TaskManager
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task, fresh

__all__ = ["EventRecorder", "FakeClock", "check_backend"]

PATIENCE = 10.0
"""Seconds after which something that should have happened is taken not to."""

LEGAL_NEXT: dict[EventType | None, frozenset[EventType]] = {
    None: frozenset({EventType.CREATED}),
    EventType.CREATED: frozenset({EventType.STARTED, EventType.CANCELLED}),
    EventType.STARTED: frozenset({EventType.RETRYING, EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}),
    EventType.RETRYING: frozenset({EventType.STARTED, EventType.CANCELLED}),
    EventType.COMPLETED: frozenset({EventType.PRUNED}),
    EventType.FAILED: frozenset({EventType.PRUNED}),
    EventType.CANCELLED: frozenset({EventType.PRUNED}),
    EventType.PRUNED: frozenset(),
}
"""Which change of state may be told after which."""


_START = datetime(2024, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved: `TaskManager(clock=FakeClock())`.

    Time-outs, retries and all else that waits for its time happen inside `advance`, on the thread that calls it, in
    order, each at its own moment. `start` is the aware moment at which it begins.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be an aware datetime, not {start!r}")
        self._start = start.astimezone(UTC)
        self._elapsed = 0.0
        self._leapt = 0.0
        self._timers: weakref.WeakSet[Timer] = weakref.WeakSet()

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return self._start + timedelta(seconds=self._elapsed + self._leapt)

    def time(self) -> float:
        """The same moment in seconds since 1970."""
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Seconds since the start; leaps do not count."""
        return self._elapsed

    def attach(self, timer: Timer) -> None:
        """Let this timer run what has become due as the time moves on."""
        self._timers.add(timer)

    def advance(self, seconds: float) -> None:
        """Let `seconds` go by."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}; see `leap`")
        end = self._elapsed + seconds
        while (due := self._run_due()) is not None and due <= end:
            self._elapsed = max(self._elapsed, due)
        self._elapsed = end
        self._run_due()

    def leap(self, seconds: float) -> None:
        """Set the wall clock forward, or back, with no time going by: as by hand, or while the machine slept."""
        self._leapt += seconds

    def _run_due(self) -> float | None:
        times = [when for timer in list(self._timers) if (when := timer.run_due()) is not None]
        return min(times, default=None)


class EventRecorder:
    """Keeps all events of a manager, in the order in which they were delivered. Also a context manager.

    `events` are the types that it records, by default all.
    """

    def __init__(self, manager: TaskManager, events: Iterable[str] = ALL_EVENTS) -> None:
        self._changed = threading.Condition()
        self._events: list[tuple[Task, EventType]] = []
        self._subscription = manager.add_event_callback(self._on_event, events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def events(self) -> list[tuple[Task, EventType]]:
        """All that was delivered so far."""
        with self._changed:
            return list(self._events)

    def of(self, task: Task) -> list[EventType]:
        """The types of the events of one task."""
        return [event_type for other, event_type in self.events if other is task]

    def wait_for(self, event_type: str, task: Task | None = None, *, timeout: float = PATIENCE) -> Task:
        """Wait until there is such an event, of that task or of any; its task. Raises WaitTimeoutError."""

        def found() -> Task | None:
            matching = (other for other, kind in self._events if kind == event_type and task in (None, other))
            return next(matching, None)

        with self._changed:
            if not self._changed.wait_for(found, timeout):
                raise WaitTimeoutError(f"no event {event_type!r} of {task or 'any task'} within {timeout:g} s")
            result = found()
        assert result is not None
        return result

    def check_legal(self) -> None:
        """Raise AssertionError if the changes of state of any task came in an order that cannot be."""
        last: dict[str, EventType | None] = {}
        for task, event_type in self.events:
            if event_type not in LEGAL_NEXT:
                continue
            before = last.get(task.id)
            assert event_type in LEGAL_NEXT[before], f"{event_type.value} after {before} of {task!r}: {self.of(task)}"
            last[task.id] = event_type

    def close(self) -> None:
        """Record nothing more, after what has happened so far."""
        self._subscription.drain(PATIENCE)

    def _on_event(self, task: Task, event_type: EventType) -> None:
        with self._changed:
            self._events.append((task, event_type))
            self._changed.notify_all()


def check_backend(make_backend: Callable[[], Backend], *, coroutines: bool = False) -> None:
    """Check that a backend does what `nbtasks.backends.base.Backend` says; raises AssertionError.

    `make_backend` makes one that is used here alone. `coroutines`: its work is coroutine functions, not plain ones. The
    functions that it is given are importable from this module, and their arguments and results small.
    """
    loops = LoopThread()
    try:
        for check in (_gives_results, _gives_errors, _is_interrupted, _is_interrupted_early, _runs_many, _closes):
            backend = make_backend()
            try:
                check(_Trial(backend, loops.loop(), coroutines=coroutines))
            finally:
                backend.close()
    finally:
        loops.close(PATIENCE)


def _gives_results(trial: _Trial) -> None:
    for value in (7, None, "text"):
        outcome = trial.run("echo", value)
        assert outcome.state is TaskState.COMPLETED, f"work that returned {value!r} ended as {outcome}"
        assert outcome.result == value, f"work that returned {value!r} gave {outcome.result!r}"


def _gives_errors(trial: _Trial) -> None:
    outcome = trial.run("fail", "no such luck")
    assert outcome.state is TaskState.FAILED, f"work that raised ended as {outcome}"
    assert "no such luck" in str(outcome.exception), f"the error of the work became {outcome.exception!r}"
    outcome = trial.run("leave")
    assert outcome.state is TaskState.FAILED, f"work that raised SystemExit ended as {outcome}"
    outcome = trial.run("echo", 1)
    assert outcome.result == 1, f"after SystemExit in one work the next one ended as {outcome}"


def _is_interrupted(trial: _Trial) -> None:
    attempt = trial.start("linger", 3 * PATIENCE)
    assert not attempt.over.wait(0.3), f"work that takes long was over at once: {attempt.outcomes}"
    trial.backend.interrupt(attempt)
    outcome = attempt.wait()
    assert outcome.state is TaskState.CANCELLED, f"interrupted work ended as {outcome}"
    following = trial.start("linger", 0.3)
    trial.backend.interrupt(attempt)  # it is over: this is to do nothing
    outcome = following.wait()
    assert outcome.result == "not interrupted", f"an interrupt of work that was over hit the next one: {outcome}"


def _is_interrupted_early(trial: _Trial) -> None:
    for _ in range(20):
        attempt = trial.start("linger", 3 * PATIENCE)
        trial.backend.interrupt(attempt)  # whether it has begun or not
        outcome = attempt.wait()
        assert outcome.state is TaskState.CANCELLED, f"an interrupt right after the start was lost: {outcome}"


def _runs_many(trial: _Trial) -> None:
    start = time.monotonic()
    attempts = [trial.start("echo", number) for number in range(20)]
    spent = time.monotonic() - start
    results = [attempt.wait().result for attempt in attempts]
    assert results == list(range(20)), f"20 at once gave {results}"
    assert spent < PATIENCE, f"starting 20 took {spent:g} s: `start` must not wait for the work"
    for attempt in attempts:
        assert len(attempt.outcomes) == 1, f"finished was called {len(attempt.outcomes)} times: {attempt.outcomes}"


def _closes(trial: _Trial) -> None:
    trial.run("echo", 1)
    trial.backend.close()
    trial.backend.close()  # as often as one likes


class _Trial:
    """One backend on trial, and how work is given to it."""

    def __init__(self, backend: Backend, loop: asyncio.AbstractEventLoop, *, coroutines: bool) -> None:
        self.backend = backend
        self._loop = loop
        self._works = _COROUTINES if coroutines else _FUNCTIONS

    def start(self, work: str, *args: Any) -> _WatchedAttempt:
        task = fresh(Task)
        task.name, task._lane, task._priority, task._backend = work, "default", 0, self.backend.name
        context = contextvars.copy_context()
        attempt = _WatchedAttempt(task, self._works[work], args, self.backend, context, self._loop)
        attempt.is_async = self._works is _COROUTINES and self.backend.name != "loop"
        self.backend.start(attempt)
        return attempt

    def run(self, work: str, *args: Any) -> Outcome:
        return self.start(work, *args).wait()


class _WatchedAttempt(Attempt):
    """An attempt that only notes its end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.outcomes: list[Outcome] = []
        self.over = threading.Event()

    def finished(self, outcome: Outcome) -> Attempt | None:
        self.outcomes.append(outcome)
        self.over.set()
        return None

    def wait(self) -> Outcome:
        assert self.over.wait(PATIENCE), f"{self.task.name!r} was never reported as finished"
        return self.outcomes[0]


def _echo(value: object) -> object:
    return value


def _fail(message: str) -> None:
    raise ValueError(message)


def _leave() -> None:
    raise SystemExit("leaving")


def _linger(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return "not interrupted"


async def _echo_later(value: object) -> object:
    return value


async def _fail_later(message: str) -> None:
    raise ValueError(message)


async def _leave_later() -> None:
    raise SystemExit("leaving")


async def _linger_later(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "not interrupted"


_FUNCTIONS: dict[str, Callable[..., Any]] = {"echo": _echo, "fail": _fail, "leave": _leave, "linger": _linger}
_COROUTINES: dict[str, Callable[..., Any]] = {
    "echo": _echo_later, "fail": _fail_later, "leave": _leave_later, "linger": _linger_later
}  # fmt: skip
