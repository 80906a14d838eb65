"""The exceptions of nbtasks, as one tree.

NbtasksError
├── InvalidValueError (ValueError)          a value that is not allowed; nothing was changed
│   ├── UnknownLaneError, UnknownBackendError, UnknownStateError, UnknownEventError
│   ├── UnknownTaskError                    an id or a task that this manager does not have
│   ├── LaneError                           a lane's name or limit; a lane that is in use
│   ├── PriorityError, TimeoutValueError, RetryError, ProgressError
│   ├── DependencyCycleError                tasks that wait `after` each other
│   ├── InvalidScheduleError                a schedule that is wrong or never fires
│   └── UnknownTimezoneError
├── WorkError (TypeError)                   work, a callback or a Task subclass that cannot be run
│   └── NotSendableError                    what the work uses cannot be sent to another process
├── TaskStateError (RuntimeError)           the task's state does not allow it
│   ├── IllegalTransitionError              a change of state that is not in the table
│   ├── ReadOnlyError (AttributeError)      an attribute that only the manager sets
│   ├── AlreadyAddedError, NotAddedError
│   └── ResultNotReadyError
├── TaskFailedError (RuntimeError)          the work raised what is no `Exception`, or could not start
│   ├── RemoteError                         an error of another process that cannot be recreated here
│   └── WorkerDiedError                     the process that did the work has died
├── TaskCancelledError (RuntimeError)       the awaited task was cancelled
├── TaskTimeoutError (TimeoutError)         an attempt ran longer than the task's `timeout`
├── WaitTimeoutError (TimeoutError)         a wait timed out; the tasks continue
├── DeadlockError (RuntimeError)            a wait that could never end
├── ActionError (RuntimeError)              a ready-made action failed
│   └── ChecksumError                       a file does not have the expected checksum
├── MissingPackageError (ImportError)       an optional package, which has to be installed first
├── HistoryError (RuntimeError)             the file of the history cannot be used
├── NoInputError (RuntimeError)             a background task asked for input
├── AdoptionError (RuntimeError)            the running cell cannot be sent to the background
└── ManagerStoppedError (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ActionError",
    "AdoptionError",
    "AlreadyAddedError",
    "ChecksumError",
    "DeadlockError",
    "DependencyCycleError",
    "HistoryError",
    "IllegalTransitionError",
    "InvalidScheduleError",
    "InvalidValueError",
    "LaneError",
    "ManagerStoppedError",
    "MissingPackageError",
    "NbtasksError",
    "NoInputError",
    "NotAddedError",
    "NotSendableError",
    "PriorityError",
    "ProgressError",
    "ReadOnlyError",
    "RemoteError",
    "ResultNotReadyError",
    "RetryError",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskStateError",
    "TaskTimeoutError",
    "TimeoutValueError",
    "UnknownBackendError",
    "UnknownEventError",
    "UnknownLaneError",
    "UnknownStateError",
    "UnknownTaskError",
    "UnknownTimezoneError",
    "WaitTimeoutError",
    "WorkError",
    "WorkerDiedError",
    "unknown",
]


class NbtasksError(Exception):
    """The base class of all exceptions of nbtasks."""


class InvalidValueError(NbtasksError, ValueError):
    """A value that is not allowed. Nothing was changed."""


class UnknownLaneError(InvalidValueError):
    """The manager has no lane of this name."""


class UnknownBackendError(InvalidValueError):
    """The manager has no backend of this name."""


class UnknownStateError(InvalidValueError):
    """There is no task state of this name."""


class UnknownEventError(InvalidValueError):
    """There is no event type of this name."""


class UnknownTaskError(InvalidValueError):
    """The manager does not have this task."""


class LaneError(InvalidValueError):
    """A lane's name or limit is not allowed, or the lane is in use."""


class PriorityError(InvalidValueError):
    """A priority is not a whole number."""


class TimeoutValueError(InvalidValueError):
    """A timeout is not a positive number of seconds or timedelta."""


class RetryError(InvalidValueError):
    """A retry policy that makes no sense, or that this work does not allow."""


class ProgressError(InvalidValueError):
    """A progress that is not a number."""


class DependencyCycleError(InvalidValueError):
    """Tasks that wait `after` each other would never start."""


class InvalidScheduleError(InvalidValueError):
    """A schedule that is wrong, or that never fires."""


class UnknownTimezoneError(InvalidValueError):
    """There is no time zone of this name."""


class WorkError(NbtasksError, TypeError):
    """Work, a callback or a `Task` subclass that cannot be run."""


class NotSendableError(WorkError):
    """What the work uses cannot be sent to another process; nothing was started."""


class TaskStateError(NbtasksError, RuntimeError):
    """The task's state does not allow this."""


class IllegalTransitionError(TaskStateError):
    """A change of state that is not in the table of transitions."""


class ReadOnlyError(TaskStateError, AttributeError):
    """An attribute that only the manager sets."""


class AlreadyAddedError(TaskStateError):
    """The task was added to a manager before."""


class NotAddedError(TaskStateError):
    """The task has not been added to a manager."""


class ResultNotReadyError(TaskStateError):
    """The task is not finished, so it has no result."""


class TaskFailedError(NbtasksError, RuntimeError):
    """The work could not start, or raised what is no `Exception` (the cause of this)."""


class RemoteError(TaskFailedError):
    """An error of another process that cannot be recreated; the message has its text."""


class WorkerDiedError(TaskFailedError):
    """The process that did the work has died.

    `returncode` is its exit code, or the negative number of the signal.
    """

    def __init__(self, message: str, returncode: int | None = None) -> None:
        super().__init__(message)
        self.returncode = returncode


class TaskCancelledError(NbtasksError, RuntimeError):
    """The task that was waited for was cancelled."""


class TaskTimeoutError(NbtasksError, TimeoutError):
    """An attempt ran longer than the task's `timeout`."""


class WaitTimeoutError(NbtasksError, TimeoutError):
    """A wait timed out; the tasks continue. `unfinished` has those still running."""

    def __init__(self, message: str, unfinished: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.unfinished = tuple(unfinished)


class DeadlockError(NbtasksError, RuntimeError):
    """A wait that could never end."""


class ActionError(NbtasksError, RuntimeError):
    """A ready-made action failed."""


class ChecksumError(ActionError):
    """A file does not have the expected checksum."""


class MissingPackageError(NbtasksError, ImportError):
    """An optional package, which has to be installed first."""


class HistoryError(NbtasksError, RuntimeError):
    """The file of the history cannot be used. Tasks continue without it."""


class NoInputError(NbtasksError, RuntimeError):
    """A background task called `input()`, which only a foreground cell can answer."""


class AdoptionError(NbtasksError, RuntimeError):
    """The running cell cannot be sent to the background, and continues as before.

    The message says why.
    """


class ManagerStoppedError(NbtasksError, RuntimeError):
    """The manager was stopped and takes no more tasks."""


def unknown(what: str, value: object, allowed: Iterable[str]) -> str:
    """The message for a name that is not one of `allowed`, with the nearest one."""
    from difflib import get_close_matches  # only errors need it

    names = sorted(map(str, allowed))
    near = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {value!r}: one of {', '.join(names)}{hint}"
