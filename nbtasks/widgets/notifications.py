"""Notices of tasks that are over, where nobody looks at the page: a notification, a tone, a count in the title.

Stock widgets do not reach the browser's notifications; but an Output widget runs JavaScript that is displayed in it, as
a cell does, and goes on doing so after a reload. So each panel of a task of which notice is to be given has the view of
one hidden Output widget, shared by all. Knows nothing of cells, nor of what else a panel shows.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["Notices"]

BATCH_SECONDS = 1.0
"""Tasks that are over within this time are told of in one notice."""

SHOWN_SECONDS = 2.0
"""For so long the script stays in the widget; after a reload it would run once more, and is known to have run."""

MOST_NAMES = 5

# What it asks for a permission it asks when the first panel with a notice is shown, not before.
ASK = "if (window.Notification && Notification.permission === 'default') Notification.requestPermission();"

TELL = """
const key = "nbtasks-told";
const told = JSON.parse(localStorage.getItem(key) || "[]");
if (!told.includes(notice.id)) {
    localStorage.setItem(key, JSON.stringify([...told.slice(-99), notice.id]));
    if (document.visibilityState === "hidden") tell();
}
function tell() {
    const plain = title => title.replace(/^\\(\\d+\\) /, "");
    window.nbtasksUnseen = (window.nbtasksUnseen || 0) + notice.tasks;
    document.title = `(${window.nbtasksUnseen}) ${plain(document.title)}`;
    document.addEventListener("visibilitychange", () => {
        window.nbtasksUnseen = 0;
        document.title = plain(document.title);
    }, { once: true });
    if (window.Notification && Notification.permission === "granted") {
        const colour = notice.failed ? "%23c62828" : "%232e7d32";
        const path = notice.failed ? "M9 9l14 14M23 9L9 23" : "M7 17l6 6 12-14";
        const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>` +
            `<circle cx='16' cy='16' r='16' fill='${colour}'/>` +
            `<path d='${path}' stroke='white' stroke-width='4' fill='none'/></svg>`;
        const shown = new Notification(notice.title, { body: notice.body, icon, tag: notice.id });
        shown.onclick = () => { window.focus(); shown.close(); };
    }
    if (notice.sound && window.AudioContext) {
        // Up where all went well, down and lower where something failed.
        const audio = new AudioContext();
        (notice.failed ? [330, 220] : [660, 880]).forEach((pitch, index) => {
            const tone = audio.createOscillator(), volume = audio.createGain(), at = audio.currentTime + index * 0.18;
            tone.frequency.value = pitch;
            volume.gain.setValueAtTime(0.15, at);
            volume.gain.exponentialRampToValueAtTime(0.001, at + 0.3);
            tone.connect(volume).connect(audio.destination);
            tone.start(at);
            tone.stop(at + 0.3);
        });
    }
}
"""


class Settings(Protocol):
    """Of which tasks notice is given."""

    notify_after: float | None
    """Seconds: of every task that ran so long. None: only of those that ask for it (`task.notify`)."""
    notify_sound: bool


class Notices:
    """Gives notice of tasks that complete or fail; a view for the live writer, and used on its thread but for `ended`.

    `_lock` guards the batch that waits.
    """

    id = "notices"

    def __init__(self, settings: Settings, wake: Callable[[Notices], None]) -> None:
        self._settings = settings
        self._wake = wake
        self._lock = threading.Lock()
        self._batch: list[Task] = []
        self._since = 0.0
        self._told: weakref.WeakSet[Task] = weakref.WeakSet()
        self._then: list[tuple[tuple[Task, ...], Callable[[], None]]] = []
        self._widget: Any = None
        self._shown_at: float | None = None

    def wants(self, task: object) -> bool:
        """Whether notice is to be given of `task`, if it lasts long enough."""
        return bool(getattr(task, "notify", False)) or self._settings.notify_after is not None

    def beside(self, task: object) -> tuple[Any, ...]:
        """What a panel of `task` has to have in it, for its page to be told."""
        if not self.wants(task):
            return ()
        if self._widget is None:
            import ipywidgets

            self._widget = ipywidgets.Output(layout=ipywidgets.Layout(display="none"))
            self._run(ASK)
        return (self._widget,)

    def when_told(self, tasks: Iterable[Task], call: Callable[[], None]) -> None:
        """Call it when no notice of these tasks is due any more: until then their panel must stay."""
        due = tuple(task for task in tasks if self._is_due(task))
        if due and self._widget is not None:
            self._then.append((due, call))
        else:
            call()

    def ended(self, task: Task, _event_type: object = None) -> None:
        """A task is over. Any thread."""
        if not self._is_due(task):
            return
        with self._lock:
            if not self._batch:
                self._since = time.monotonic()
            self._batch.append(task)
        self._wake(self)

    @property
    def ticks(self) -> bool:
        """Whether there is something to send, or to take back."""
        return bool(self._batch) or self._shown_at is not None

    def refresh(self) -> int:
        """Send what has waited long enough, and take back what was sent; how many messages that took."""
        now = time.monotonic()
        if self._shown_at is not None and now - self._shown_at < SHOWN_SECONDS:
            return 0
        with self._lock:
            ready = now - self._since >= BATCH_SECONDS
            tasks, self._batch = (self._batch, []) if ready else ([], self._batch)
        sent = 0
        if tasks and self._widget is not None:
            notice = json.dumps(_notice(tasks, sound=self._settings.notify_sound))
            self._run(f"const notice = {notice};\n{TELL}")
            sent = 1
        elif self._shown_at is not None:
            self._widget.outputs, self._shown_at = (), None
            sent = 1
            done, self._then = self._then, []
            for due, call in done:
                self.when_told(due, call)
        self._told.update(tasks)
        return sent

    def _run(self, script: str) -> None:
        data = {"application/javascript": script, "text/plain": ""}
        self._widget.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
        self._shown_at = time.monotonic()

    def _is_due(self, task: Task) -> bool:
        if task in self._told or task.state not in (TaskState.COMPLETED, TaskState.FAILED):
            return False
        if getattr(task, "notify", False):
            return True
        after = self._settings.notify_after
        return after is not None and _seconds(task) >= after


def _seconds(task: Task) -> float:
    if task.started_at is None or task.completed_at is None:
        return 0.0
    return (task.completed_at - task.started_at).total_seconds()


def _notice(tasks: list[Task], *, sound: bool) -> dict[str, Any]:
    """One notice of all of them."""
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    if len(tasks) == 1:
        [task] = tasks
        title, body = f"{task.heading or task.name}: {task.state.value}", task.error or task.body or ""
    else:
        title = f"{len(tasks)} tasks are over" + (f", {len(failed)} failed" if failed else "")
        first = [*failed, *(task for task in tasks if task not in failed)]
        names = [f"{'✖' if task in failed else '✔'} {task.heading or task.name}" for task in first]
        left = len(names) - MOST_NAMES
        body = "\n".join([*names[:MOST_NAMES], *([f"and {left} more"] if left > 0 else [])])
    cut = {"title": title[:200], "body": str(body)[:500]}
    return {"id": uuid.uuid4().hex, "tasks": len(tasks), "failed": bool(failed), "sound": sound, **cut}
