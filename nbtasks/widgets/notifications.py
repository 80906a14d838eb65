"""Browser notifications of finished tasks, shown if the page is not visible.

A notification is a message, a tone, and a count in the title of the page.

ipywidgets has no access to the notifications of the browser; but an Output widget runs JavaScript that is displayed in
it, also after a reload. So each panel of a task with notifications contains a view of one hidden Output widget.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nbtasks.formatting import plural
from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.widgets.html import package_text
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.snapshot import STATE_STYLES

__all__ = ["NotificationSettings", "Notifications"]

BATCH_SECONDS = 1.0
"""Tasks that finish within this time share one notification."""
SCRIPT_SECONDS = 2.0
"""How long the script stays in the widget. Run again after a reload, it finds that it has run."""
NAMES = 5
"""Maximum number of task names in a notification."""


class NotificationSettings(Protocol):
    """Which tasks have notifications."""

    notify_after: float | None
    """Seconds: tasks that ran this long. None: only cell tasks that ask for it (`task.notify`)."""
    notify_sound: bool


class Notifications(View):
    """The notifications of tasks that complete or fail.

    Used on the live writer's thread, except `finished`.
    `_lock` guards the batch of finished tasks.
    """

    id = "notifications"

    def __init__(self, settings: NotificationSettings, touch: Callable[[View], None]) -> None:
        self._settings = settings
        self._touch = touch
        self._lock = threading.Lock()
        self._batch: list[Task] = []
        self._batch_began = 0.0
        self._done: weakref.WeakSet[Task] = weakref.WeakSet()
        self._deferred: list[tuple[tuple[Task, ...], Callable[[], None]]] = []
        self._widget: Any = None
        self._script_at: float | None = None

    def panel_widgets(self, task: Task) -> tuple[Any, ...]:
        """The widgets that a panel of `task` must contain for its page to show notifications."""
        if not (_asks_for_notification(task) or self._settings.notify_after is not None):
            return ()
        if self._widget is None:
            from nbtasks.widgets.widget_factory import WidgetFactory

            self._widget = WidgetFactory().output(display="none")
            self._run_script(None)
        return (self._widget,)

    def when_notified(self, tasks: Iterable[Task], call: Callable[[], None]) -> None:
        """Call the function once no notification of these tasks is pending: until then their panel must stay."""
        pending = tuple(task for task in tasks if self._is_pending(task))
        if pending and self._widget is not None:
            self._deferred.append((pending, call))
        else:
            call()

    def finished(self, task: Task, _event_type: object = None) -> None:
        """Add a finished task to the batch. Any thread."""
        if not self._is_pending(task):
            return
        with self._lock:
            if not self._batch:
                self._batch_began = time.monotonic()
            self._batch.append(task)
        self._touch(self)

    @property
    def ticks(self) -> bool:
        """Whether a batch is to be sent or a script to be removed."""
        return bool(self._batch) or self._script_at is not None

    def refresh(self) -> int:
        """Send the batch, or remove the script that was sent, when it is time; returns the number of messages."""
        now = time.monotonic()
        if self._script_at is not None and now - self._script_at < SCRIPT_SECONDS:
            return 0
        with self._lock:
            ready = now - self._batch_began >= BATCH_SECONDS
            tasks, self._batch = (self._batch, []) if ready else ([], self._batch)
        sent = 0
        if tasks and self._widget is not None:
            self._run_script(_notification(tasks, sound=self._settings.notify_sound))
            sent = 1
        elif self._script_at is not None:
            self._widget.outputs, self._script_at = (), None
            sent = 1
            deferred, self._deferred = self._deferred, []
            for pending, call in deferred:
                self.when_notified(pending, call)
        self._done.update(tasks)
        return sent

    def _run_script(self, notification: dict[str, Any] | None) -> None:
        script = f"const notification = {json.dumps(notification)};\n{package_text('notify.js')}"
        data = {"application/javascript": script, "text/plain": ""}
        self._widget.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
        self._script_at = time.monotonic()

    def _is_pending(self, task: Task) -> bool:
        """Whether a notification of this task is still to be shown."""
        if task in self._done or task.state not in (TaskState.COMPLETED, TaskState.FAILED):
            return False
        after = self._settings.notify_after
        return _asks_for_notification(task) or (after is not None and _run_seconds(task) >= after)


def _asks_for_notification(task: Task) -> bool:
    cell = task.cell_details()
    return cell is not None and cell.notify


def _run_seconds(task: Task) -> float:
    if task.started_at is None or task.completed_at is None:
        return 0.0
    return (task.completed_at - task.started_at).total_seconds()


def _notification(tasks: list[Task], *, sound: bool) -> dict[str, Any]:
    """The content of one notification of these tasks."""
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    if len(tasks) == 1:
        [task] = tasks
        title, body = f"{task.heading or task.name}: {task.state.value}", task.error or task.body or ""
    else:
        title = f"{plural(len(tasks), 'task')} finished" + (f", {len(failed)} failed" if failed else "")
        failed_first = [*failed, *(task for task in tasks if task not in failed)]
        names = [f"{STATE_STYLES[task.state.value].sign} {task.heading or task.name}" for task in failed_first]
        left = len(names) - NAMES
        body = "\n".join([*names[:NAMES], *([f"and {left} more"] if left > 0 else [])])
    text = {"title": title[:200], "body": str(body)[:500]}
    return {"id": uuid.uuid4().hex, "tasks": len(tasks), "failed": bool(failed), "sound": sound, **text}
