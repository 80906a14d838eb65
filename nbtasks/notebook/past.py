"""Tasks and schedules of earlier kernels of the notebook, as the history has them."""

from __future__ import annotations

from nbtasks.exceptions import HistoryError
from nbtasks.formatting import one_line
from nbtasks.history.records import ScheduleRecord
from nbtasks.manager import TaskManager
from nbtasks.notebook.kernel import Kernel
from nbtasks.states import FINAL_STATES
from nbtasks.widgets.html import panel_bundle
from nbtasks.widgets.snapshot import Snapshot, record_snapshot

__all__ = ["offered_schedules", "publish_past"]

MOST_PAST = 100
"""How many tasks of earlier kernels the panels in the document can show the end of."""
PAST_DISPLAY = "nbtasks-past"
PAST_TYPE = "application/vnd.nbtasks.past+json"


def offered_schedules(manager: TaskManager) -> list[ScheduleRecord]:
    """Schedules of earlier kernels of this notebook that do not exist here, the newest of each name."""
    history = manager.history
    if history is None or history.notebook is None:
        return []
    existing = {one.name for one in manager.list_recurring_tasks()}
    offered = [one for one in history.schedules(notebook=history.notebook) if one.offered]
    offered.sort(key=lambda one: one.updated_at)
    return list({one.name: one for one in offered if one.name not in existing}.values())


def publish_past(manager: TaskManager, kernel: Kernel) -> None:
    """Tell the JupyterLab extension how tasks of earlier kernels of this notebook ended.

    Any thread; a history that cannot be read has been reported already.
    """
    history = manager.history
    if history is None or history.notebook is None:
        return
    try:
        records = history.tasks(notebook=history.notebook, limit=MOST_PAST)
        schedules = offered_schedules(manager)
    except HistoryError:
        return
    past = {one.id: record_snapshot(one) for one in records if one.state in FINAL_STATES}
    past |= {one.id: Snapshot(state="lost", title=one_line(one.name)) for one in schedules}
    here = {task.id for task in manager.list_tasks()}
    data = {subject_id: panel_bundle(one) for subject_id, one in past.items() if subject_id not in here}
    if data:
        kernel.send_hidden(PAST_DISPLAY, {PAST_TYPE: data})
