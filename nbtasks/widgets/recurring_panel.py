"""Panel of a recurring task: current run, next fire, schedule, and output of runs.

Used on the live writer's thread only; a click may come on any thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import KeptRun
from nbtasks.widgets.cron_controls import CronControls
from nbtasks.widgets.html import note_html, panel_bundle, style_html
from nbtasks.widgets.live_writer import View, ViewCount
from nbtasks.widgets.output_view import OutputView
from nbtasks.widgets.panel import PanelHead
from nbtasks.widgets.snapshot import STATE_STYLES, Snapshot, progress_state, snapshot_of
from nbtasks.widgets.widget_factory import WidgetFactory, update, widget_bundle

__all__ = ["RecurringPanel"]


class RecurringPanel(View):
    """The live panel of one recurring task."""

    watches_progress = True

    def __init__(
        self,
        recurring: RecurringTask,
        manager: TaskManager,
        touch: Callable[[View], None],
        extra_widgets: tuple[Any, ...] = (),
    ) -> None:
        self.task = recurring
        self.replace: Callable[[Snapshot], None] | None = None
        """Shows a static panel in place of the widget; called once, when the recurring task is removed."""
        self._snapshot: Snapshot | None = None
        self._extra_widgets = extra_widgets
        factory = self._factory = WidgetFactory()
        self._head = PanelHead(factory)
        self._cancel = factory.button(
            "Cancel",
            "Cancel the current run (the schedule continues)",
            lambda: [manager.cancel_task(run) for run in recurring.instances if not run.cancelling],
            margin="0 0 0 6px",
        )
        self._note = factory.html()
        self._runs = _RunsView(recurring, factory, lambda: touch(self))
        self._schedule = _ScheduleView(recurring, factory, lambda: touch(self))
        self.widget = factory.view("nbtasks-panel")
        self.views = ViewCount(self.widget)
        self.refresh()

    @property
    def ticks(self) -> bool:
        """The time until the next fire runs, and that of the current run."""
        return self._snapshot is None or not self._snapshot.finished or self._runs.refresh_due

    def progress_state(self) -> object:
        """That of the current runs."""
        return [progress_state(run) for run in self.task.instances]

    def refresh(self) -> int:
        """Write what has changed; returns the number of messages."""
        snapshot, sent = snapshot_of(self.task, datetime.now(UTC)), 0
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            sent += self._write(snapshot)
        sent += self._runs.refresh() + self._schedule.refresh()
        if snapshot.finished and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(snapshot)
            sent += 1
        return sent

    def _write(self, snapshot: Snapshot) -> int:
        sent = self._head.show(snapshot, *self._runs.switches, self._schedule.switch, self._cancel, style=style_html())
        # The button keeps its place between runs, so that the switches beside it do not move with every run.
        running = snapshot.state in ("pending", "running", "cancelling")
        classes = () if running else ("nbtasks-hidden",)
        sent += update(self._cancel, _dom_classes=classes)
        sent += update(self._note, value=note_html(snapshot))
        note = [self._note] if self._note.value else []
        below = (*note, self._schedule.widget, self._runs.widget, *self._extra_widgets)
        return sent + update(self.widget, children=(self._head.row, self._head.bar, *below))

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live panel, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, panel_bundle(snapshot_of(self.task, datetime.now(UTC))))

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()


class _ScheduleView:
    """The controls of the schedule; made when they are first opened."""

    def __init__(self, recurring: RecurringTask, factory: WidgetFactory, touch: Callable[[], None]) -> None:
        self._task = recurring
        self._factory = factory
        self._touch = touch
        self._controls: CronControls | None = None
        self.switch = factory.toggle("Schedule", "", touch, margin="0 0 0 6px")
        self.widget = factory.column()
        self.widget.add_class("nbtasks-schedules")

    def refresh(self) -> int:
        """Show the schedule, if it is switched on; returns the number of messages."""
        sent = self._factory.name_toggle(self.switch, "the schedule, which can be changed there")
        if not self.switch.value:
            return sent + update(self.widget, children=())
        if self._controls is None:
            self._controls = CronControls(self._factory, self._touch)
        sent += self._controls.show(self._task, datetime.now(UTC))
        return sent + update(self.widget, children=(self._controls.widget,))


class _RunsView:
    """The output of the newest run, or of the one chosen with Earlier and Later."""

    def __init__(self, recurring: RecurringTask, factory: WidgetFactory, touch: Callable[[], None]) -> None:
        self._runs = recurring.template.kept_runs()
        self._factory = factory
        self._touch = touch
        self._chosen: int | None = None
        """The number of the chosen run; None for the newest."""
        self._steps: deque[int] = deque()
        """Clicks that are not shown yet: -1 for Earlier, 1 for Later."""
        self._view: OutputView | None = None
        on = self._runs is not None and not self._runs.shows
        self._switch = factory.toggle("Output", "", touch, value=on, margin="0 0 0 auto")
        self.switches = () if self._runs is None else (self._switch,)
        shape = {"margin": "0 0 0 6px"}
        self._earlier = factory.button("Earlier", "Output of the previous run", lambda: self._step(-1), **shape)
        self._later = factory.button("Later", "Output of the next run", lambda: self._step(1), **shape)
        self._title = factory.html(margin="0 6px")
        self._pager = factory.row(self._earlier, self._title, self._later, align_items="center")
        self.widget = factory.column()

    @property
    def refresh_due(self) -> bool:
        """Whether there may be more output to show in a moment."""
        return self._view is not None and self._view.refresh_due and self._switch.value

    def refresh(self) -> int:
        """Show the output of the chosen run, if it is switched on; returns the number of messages."""
        sent = self._factory.name_toggle(self._switch, "the output of the last runs")
        runs: Sequence[KeptRun] = self._runs.kept if self._runs is not None and self._switch.value else ()
        if not runs:
            return sent + update(self.widget, children=())
        position = self._choose([run.number for run in runs])
        return sent + self._show(runs[position], first=position == 0, last=position == len(runs) - 1)

    def _choose(self, numbers: Sequence[int]) -> int:
        """The position of the chosen run after the clicks; that of the oldest if the run is no longer kept."""
        steps = 0
        while self._steps:
            steps += self._steps.popleft()
        newest = len(numbers) - 1
        if self._chosen is None:
            position = newest
        elif self._chosen < numbers[0]:
            position = 0
        else:
            position = numbers.index(self._chosen) if self._chosen in numbers else newest
        position = max(0, min(newest, position + steps))
        if steps or self._chosen is not None:
            self._chosen = None if position == newest else numbers[position]
        return position

    def _show(self, run: KeptRun, *, first: bool, last: bool) -> int:
        if self._view is None:
            self._view = OutputView(self._factory, run.output)
        began = "" if run.started_at is None else f"{run.started_at.astimezone():%H:%M:%S}"
        sign, label, colour = STATE_STYLES[run.state]
        title = (
            f'run {run.number} · {began} · <span style="color:{colour}" aria-hidden="true">{sign}</span> '
            f"{escape(label)}{' · the newest' if last else ''}"
        )
        sent = update(self._title, value=title)
        sent += update(self._earlier, disabled=first) + update(self._later, disabled=last)
        self._view.refresh(run.output, on=True, final=run.state not in ("pending", "running"))
        return sent + update(self.widget, children=(self._pager, self._view.widget))

    def _step(self, by: int) -> None:
        self._steps.append(by)
        self._touch()
