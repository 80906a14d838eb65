"""The panel of a recurring task: the run that there is, when the next one comes, and the outputs of the last runs.

Written by the live writer's thread only. Knows of runs no more than their number, start, state and output.
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import ipywidgets

from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.widgets.cron_controls import CONTROLS_STYLE, CronControls
from nbtasks.widgets.output_view import KeptOutput, OutputView
from nbtasks.widgets.pace import reading
from nbtasks.widgets.panel import STYLE, VIEW_TYPE
from nbtasks.widgets.recurring_shown import RecurringShown
from nbtasks.widgets.snapshot import BAR_HEIGHT, LOOKS, PanelPicture, Shown, figures_html, label_html, note_html
from nbtasks.widgets.widget_factory import Parts, put

__all__ = ["KeptRun", "RecurringPanel"]


class KeptRun(Protocol):
    """One of the last runs."""

    number: int
    started_at: datetime | None
    state: str

    @property
    def output(self) -> KeptOutput:
        """What it wrote."""


class RecurringPanel:
    """The live panel of one recurring task; a view for the live writer."""

    def __init__(
        self,
        recurring: RecurringTask,
        manager: TaskManager,
        wake: Callable[[RecurringPanel], None],
        beside: tuple[Any, ...] = (),
    ) -> None:
        self.task = recurring
        self.replace: Callable[[PanelPicture], None] | None = None
        """Puts a picture in the place of the widget in its document: called once, when it was removed."""
        self._shown: Shown | None = None
        self._label = ipywidgets.HTML(layout=_layout(flex="0 1 auto", min_width="0"))
        self._figures = ipywidgets.HTML(layout=_layout(flex="0 0 auto"))
        self._cancel = _button("Cancel", "Cancel what runs now; the schedule goes on")
        self._row = ipywidgets.HBox(
            [self._label, self._figures, self._cancel], layout=_layout(align_items="center", height="28px")
        )
        self._row.add_class("nbtasks-row")
        self._bar = ipywidgets.FloatProgress(min=0.0, max=100.0, layout=_layout(width="auto", height=f"{BAR_HEIGHT}px"))
        self._note = ipywidgets.HTML(layout=_layout())
        self._runs = _Runs(recurring, lambda: wake(self))
        self._schedule = _Schedule(recurring, lambda: wake(self))
        self._row.children = (self._label, self._figures, self._runs.switch, self._schedule.switch, self._cancel)
        self.widget = ipywidgets.VBox(
            [self._row, self._bar, self._note, self._schedule.widget, self._runs.widget, *beside],
            layout=_layout(width="100%", max_width="760px", padding="0 0 6px 6px"),
        )
        self.widget.add_class("nbtasks-panel")
        # A click may come on any thread; it only calls the manager, whose events bring the change back here.
        self._cancel.on_click(lambda _: [manager.cancel_task(run) for run in recurring.instances])
        self.refresh()

    @property
    def ticks(self) -> bool:
        """The time to the next fire runs, and that of the run."""
        return self._shown is None or not self._shown.over or self._runs.due

    def reading(self) -> object:
        """What the work says of itself."""
        return [reading(run) for run in self.task.instances]

    def refresh(self) -> None:
        """Write to the widgets what differs from what they show."""
        shown = RecurringShown.of(self.task, datetime.now(UTC))
        if shown != self._shown:
            self._shown = shown
            self._write(shown)
        self._runs.refresh()
        self._schedule.refresh()
        if shown.over and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(PanelPicture(shown))

    def _write(self, shown: Shown) -> None:
        runs = shown.state in ("pending", "running", "cancelling")
        self._label.value = STYLE + label_html(shown)
        self._bar.value = shown.progress or 0.0
        if shown.indeterminate:
            self._bar.add_class("nbtasks-indeterminate")
        else:
            self._bar.remove_class("nbtasks-indeterminate")
        self._bar.style.bar_color = LOOKS[shown.state][2]
        self._figures.value = figures_html(shown)
        self._note.value = note_html(shown)
        self._note.layout.display = None if self._note.value else "none"
        # Kept in its place where nothing runs, so that what stands beside it does not move with every run.
        self._cancel.layout.visibility = None if runs else "hidden"
        self._cancel.disabled = shown.state == "cancelling"

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live panel, with its picture for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {VIEW_TYPE: view, **PanelPicture(RecurringShown.of(self.task, datetime.now(UTC))).bundle()}

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        self._runs.close()
        self._schedule.close()
        close_all((self.widget, self._label, self._bar, self._figures, self._cancel, self._note, self._row))


class _Schedule:
    """The controls of the schedule, made when they are asked for."""

    def __init__(self, recurring: RecurringTask, wake: Callable[[], None]) -> None:
        self._task = recurring
        self._wake = wake
        self._parts = Parts()
        self._controls: CronControls | None = None
        self._shown: tuple[Any, ...] = ()
        self.switch = ipywidgets.ToggleButton(
            description="Schedule",
            tooltip="Show here what changes the schedule",
            layout=_layout(flex="0 0 auto", width="auto", height="24px", margin="0 0 0 6px"),
        )
        self.widget = ipywidgets.VBox(layout=_layout())
        self.widget.add_class("nbtasks-schedules")
        self.switch.observe(lambda _change: wake(), names="value")

    def refresh(self) -> None:
        """Show the schedule as it is, if the switch is on."""
        if not self.switch.value:
            put(self.widget, children=())
            return
        if self._controls is None:
            self._controls = CronControls(self._parts, self._wake)
            self._shown = (self._parts.html(CONTROLS_STYLE, display="none"), self._controls.widget)
        self._controls.show(self._task, datetime.now(UTC))
        put(self.widget, children=self._shown)

    def close(self) -> None:
        """Close the widgets."""
        self._parts.close()
        close_all((self.switch, self.widget))


class _Runs:
    """The outputs of the last runs, one at a time: the newest, unless one pages back."""

    def __init__(self, recurring: RecurringTask, wake: Callable[[], None]) -> None:
        self._source = getattr(recurring.template, "runs", None)
        self._chosen: int | None = None
        self._view: OutputView | None = None
        self._moves: deque[int] = deque()
        self.switch = ipywidgets.ToggleButton(
            description="Output",
            tooltip="Show here what the last runs wrote",
            layout=_layout(flex="0 0 auto", width="auto", height="24px", margin="0 0 0 auto"),
        )
        self.switch.value = self._source is not None and not self._source.shows
        self._back = _button("Earlier", "What the run before wrote")
        self._on = _button("Later", "What the run after wrote")
        self._which = ipywidgets.HTML(layout=_layout(margin="0 6px"))
        self._pager = ipywidgets.HBox(
            [self._back, self._which, self._on], layout=_layout(align_items="center", display="none")
        )
        self.widget = ipywidgets.VBox([self._pager], layout=_layout())
        self.switch.layout.display = None if self._source is not None else "none"
        self.switch.observe(lambda _change: wake(), names="value")
        self._back.on_click(lambda _: self._move(-1, wake))
        self._on.on_click(lambda _: self._move(1, wake))

    @property
    def due(self) -> bool:
        """Whether it would show more if it were asked again in a moment."""
        return self._view is not None and self._view.due

    def refresh(self) -> None:
        """Show the chosen run's output, if the switch is on."""
        runs: Sequence[KeptRun] = self._source.kept if self._source is not None and self.switch.value else ()
        self._pager.layout.display = None if runs else "none"
        if not runs:
            if self._view is not None:
                self._view.refresh(on=False, final=True)
            return
        numbers = [run.number for run in runs]
        moves = 0
        while self._moves:
            moves += self._moves.popleft()
        at = numbers.index(self._chosen) if self._chosen in numbers else len(runs) - 1
        if self._chosen is not None and self._chosen < numbers[0]:
            at = 0  # it is no longer kept: the oldest that is
        at = max(0, min(len(runs) - 1, at + moves))
        if moves or self._chosen is not None:
            self._chosen = None if at == len(runs) - 1 else numbers[at]
        self._show(runs[at], first=at == 0, last=at == len(runs) - 1)

    def _show(self, run: KeptRun, *, first: bool, last: bool) -> None:
        if self._view is None:
            self._view = OutputView(run.output)
            self.widget.children = (self._pager, self._view.widget)
        if self._view.output is not run.output:
            self._view.output = run.output
            self._view.refresh(on=True, final=True)
        began = "" if run.started_at is None else f"{run.started_at.astimezone():%H:%M:%S}"
        sign, words, colour = LOOKS[run.state]
        text = (
            f'run {run.number} · {began} · <span style="color:{colour}" aria-hidden="true">{sign}</span> '
            f"{html.escape(words)}{' · the newest' if last else ''}"
        )
        if self._which.value != text:
            self._which.value = text
        self._back.disabled, self._on.disabled = first, last
        self._view.refresh(on=True, final=run.state not in ("pending", "running"))

    def _move(self, by: int, wake: Callable[[], None]) -> None:
        self._moves.append(by)
        wake()

    def close(self) -> None:
        """Close the widgets."""
        if self._view is not None:
            self._view.close()
        close_all((self.switch, self._back, self._on, self._which, self._pager, self.widget))


def close_all(widgets: Sequence[Any]) -> None:
    """Close these widgets, with their layouts and styles."""
    for widget in widgets:
        for part in (getattr(widget, "style", None), widget.layout, widget):
            if part is not None:
                part.close()


def _button(description: str, tooltip: str) -> ipywidgets.Button:
    layout = _layout(flex="0 0 auto", width="auto", height="24px", margin="0 0 0 6px")
    return ipywidgets.Button(description=description, tooltip=tooltip, layout=layout)


def _layout(**traits: str) -> ipywidgets.Layout:
    return ipywidgets.Layout(**{"margin": "0", **traits})
