"""`NotebookSession`: cells and views of a notebook, and the actions of its magics."""

from __future__ import annotations

import functools
import itertools
import keyword
import os
import sys
import weakref
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from IPython.display import display

from nbtasks.exceptions import AdoptionError, InvalidValueError, NbtasksError
from nbtasks.formatting import duration
from nbtasks.history.history import History
from nbtasks.history.records import ScheduleRecord
from nbtasks.notebook.cells.adopted_cell import (
    ADOPTED_LANE,
    FOREGROUND_BACKEND,
    AdoptedCell,
    AfterStreams,
    prepare,
)
from nbtasks.notebook.cells.cell_task import CellTask, Notebook
from nbtasks.notebook.cells.errors import render_error, show_as_rendered
from nbtasks.notebook.cells.recurring_cell import CellRun, repeated, restored_template, run_once
from nbtasks.notebook.cells.source import CellSource
from nbtasks.notebook.kernel import LaunchingCell
from nbtasks.notebook.output.headless import Slots
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.panels import Panels
from nbtasks.notebook.parts import NotebookParts
from nbtasks.notebook.past import offered_schedules
from nbtasks.notebook.remote.cell_work import WorkerProcess
from nbtasks.notebook.remote.process_setup import Workers
from nbtasks.schedules import Schedule, parse_schedule
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task, call_hook
from nbtasks.widgets.run_query import RunQuery

if TYPE_CHECKING:
    from nbtasks.web.server import Server

__all__ = ["NotebookSession"]

MOST_REPEATABLE = 100
CONTINUE_SCHEDULES = "NBTASKS_CONTINUE_SCHEDULES"
"""The environment variable by which a program has cells continue the schedules of an earlier kernel; "1": yes."""


class NotebookSession:
    """Cells and views of one notebook: the actions of magics and widgets.

    It is made when nbtasks is first used in the notebook, and imports what cells, views and schedules need.
    Any thread may call `next_name`, `adopted_cell`, `retry`, `repeatable` and `repeat`; all else is called on the main
    thread.
    """

    def __init__(self, parts: NotebookParts) -> None:
        self.shell, self.kernel, self.manager = parts.shell, parts.kernel, parts.manager
        self.libraries, self.publisher, self.settings = parts.libraries, parts.publisher, parts.settings
        self.panels = Panels(self.manager, self.kernel, self.retry, self.settings)
        self.slots = Slots(self.kernel)
        self.workers = Workers(self.manager, self.shell)
        self._server: Server | None = None
        self._bound: weakref.WeakSet[Task] = weakref.WeakSet()
        self._numbers = itertools.count(1)
        self._launched_in: LaunchingCell | None = None
        self.notebook = Notebook(
            self.shell, self.kernel, parts.names, parts.variables, parts.libraries, WorkerProcess()
        )

    def next_name(self) -> str:
        """A name for a cell without one, which no task has: bg1, bg2 and so on."""
        taken = {task.name for task in self.manager.list_tasks()}
        taken |= {recurring.name for recurring in self.manager.list_recurring_tasks()}
        return next(name for number in self._numbers if (name := f"bg{number}") not in taken)

    def running_in_threads(self) -> dict[str, Output]:
        """The output of each cell that runs in a thread of this process, by the name of its task."""
        active = [task for task in self.manager.active_tasks if isinstance(task, CellTask)]
        running = [task for task in active if task.state is TaskState.RUNNING and task.backend == "thread"]
        return {task.name: task.output for task in running}

    def adopted_cell(self, parent: dict[str, Any], execution_count: int, name: str | None) -> AdoptedCell:
        """The task of the running foreground cell of this request, which was not added yet.

        Raises AdoptionError if the cell binds `name`, and what `add_task` raises.
        """
        code = CellSource(self.shell, parent["content"]["code"], execution_count, nested=True)
        if name in code.binds:
            raise AdoptionError(f"the cell itself binds {name!r}; give the task another name")
        cell = self.kernel.cell_of(parent, execution_count)
        output = Output(AfterStreams(functools.partial(self.kernel.send, cell)), self.publisher)
        task = AdoptedCell(
            name=self.next_name() if name is None else name,
            lane=ADOPTED_LANE,
            backend=FOREGROUND_BACKEND,
            code=code,
            notebook=self.notebook,
            cell=cell,
            output=output,
            shared=True,
        )
        output.header = functools.partial(self.panels.header, task, cell)
        prepare(self.manager)
        self.manager.check_task(task)
        return task

    def bind(self, name: str, task: Task | RecurringTask) -> None:
        """Bind the name to the task in the notebook, if it is an identifier."""
        if name.isidentifier() and not keyword.iskeyword(name):
            self.shell.user_ns[name] = task
            if isinstance(task, Task):
                self._bound.add(task)

    def serve(self, port: int = 0, hosts: Collection[str] = ()) -> Server:
        """Serve the tasks on 127.0.0.1, also while the kernel is busy; returns a server that is running.

        `hosts` are names, besides localhost, by which a proxy reaches the server. Raises NbtasksError for another port
        or other hosts than those of a server that runs, MissingPackageError without the extra `web`.
        """
        from nbtasks.web import serve

        running = self._server
        if running is None or not running.running:
            self._server = serve(self.manager, port=port, hosts=hosts, retry=self.retry)
            return self._server
        if (port and port != running.port) or not set(hosts) <= running.hosts:
            raise NbtasksError(f"already serving on port {running.port}: stop it first, with %bgtask serve --stop")
        return running

    def stop_serving(self) -> bool:
        """Stop the server; False if none is running."""
        server, self._server = self._server, None
        return server is not None and server.stop()

    def show_as_rendered(self, error: BaseException) -> None:
        """Make the foreground, where the error of a task is about to be raised, show it as the task does."""
        show_as_rendered(self.shell, error)

    # -- the end of foreground cells ------------------------------------------------------------------------------

    def names_may_have_changed(self) -> None:
        """A foreground cell has ended: have running cells say which changes of names they do not see."""
        for task in self.manager.active_tasks:
            if isinstance(task, CellTask):
                task.foreground_ended()

    def foreground_ended(self, error: BaseException | None) -> None:
        """A foreground cell has ended, with this error: release memory, show late output, give a hint."""
        self._release_dropped()
        self.slots.deliver(self.kernel.launching_cell())
        if isinstance(error, NameError) and error.name is not None:
            self._hint_at_task(error.name)

    def _hint_at_task(self, name: str) -> None:
        """After a NameError: print which task to wait for, if an active one is going to bind the name.

        Else print where its object is, if that is in a worker process.
        """
        for task in self.manager.active_tasks:
            if isinstance(task, CellTask) and name in task.code.binds and name not in self.shell.user_ns:
                print(
                    f"{name} will be bound by the background task {task.name!r}: %bgtask wait {task.name}",
                    file=sys.stderr,
                )
                return
        stayed = self.notebook.names.stayed_behind(name)
        if stayed is not None:
            print(f"nbtasks: {name} ({stayed[0]}): {stayed[1]}", file=sys.stderr)

    def _release_dropped(self) -> None:
        """Have finished tasks drop what only a debugger needs, if no variable of the notebook refers to them."""
        finished = [task for task in self._bound if task.done]
        if finished:
            held = set(map(id, dict(self.shell.user_ns).values()))
            for task in finished:
                if id(task) not in held:
                    self._bound.discard(task)
                    call_hook(task.on_release)

    # -- launching cells ------------------------------------------------------------------------------------------

    def launch(self, task: CellTask, *, quiet: bool, replaces: bool = False) -> None:
        """Start the task of a cell, with a panel under the cell unless it is `quiet`.

        A task that `replaces` earlier runs is cancelled if those do not stop in time.
        """
        self._launched_in = task.cell
        self._keep_panel(task.output, task, task.cell)
        self.libraries.note()
        with task.output.held():
            # What the launching cell itself has written, such as warnings of the compiler, comes first.
            sys.stdout.flush()
            sys.stderr.flush()
            self.manager.add_task(task)
            if replaces:
                self._limit_replacing(task, functools.partial(self.manager.cancel_task, task, running=False))
            for former in self._schedules_of(task.cell):  # the cell is launched without its schedule now
                former.remove()
            self.bind(task.name, task)
            if task.cell.headless:
                self.manager.exit_grace = self.settings.exit_grace
            if not quiet:
                self._show_launched(task, task.cell, headless=task.cell.headless and not task.raises_in_cell)

    def has_launched(self) -> bool:
        """Whether the foreground cell that runs now has launched a background cell."""
        here = self.kernel.launching_cell()
        launched = self._launched_in
        return launched is not None and (launched.request_id, launched.execution_count) == (
            here.request_id, here.execution_count,
        )  # fmt: skip

    def _keep_panel(self, output: Output, task: Task, cell: LaunchingCell) -> None:
        """Keep the panel in the cell when the task, or the user, clears the cell's output."""
        output.header = functools.partial(self.panels.header, task, cell)
        output.header_if_cleared = functools.partial(self.panels.header_if_cleared, task, cell)

    def _limit_replacing(self, task: CellTask, give_up: Callable[..., object]) -> None:
        """Call `give_up` with the reason if the earlier runs of a cell do not stop in time."""
        earlier = [run for run in task.earlier_runs if not run.done]
        seconds = self.settings.replace_timeout

        def check() -> None:
            for run in earlier:
                if not run.done:
                    reason = f"the earlier run {run.name!r} ({run.id}) has not stopped within {duration(seconds)}"
                    give_up(reason=reason)
                    return

        if earlier:
            self.manager.timer.call_later(seconds, check)

    def launch_schedule(
        self,
        template: CellRun,
        schedule: Schedule | str,
        *,
        timezone: str | None,
        max_concurrent: int,
        quiet: bool,
        at_once: bool,
        replaces: bool = False,
    ) -> None:
        """Run a cell on a schedule, which replaces an earlier one of the same cell or the same name.

        `at_once` it runs for the first time, unless it continues the schedule of an earlier kernel. A schedule whose
        cell `replaces` earlier runs is paused if those do not stop in time.
        """
        earlier = self._schedules_of(template.cell, template.name)
        self._launched_in = template.cell
        self.libraries.note()
        continued = self._continued(template, schedule)
        recurring = continued or self.manager.add_recurring_task(
            schedule, template, timezone=timezone, max_concurrent=max_concurrent
        )
        template.runs.launched = recurring.expression, recurring.timezone
        for former in earlier:
            former.remove()
        if replaces:
            self._limit_replacing(template, functools.partial(self._pause, recurring))
        template.runs.header = functools.partial(self.panels.header_if_cleared, recurring, template.cell)
        self.bind(template.name, recurring)
        if not quiet:
            self._show_launched(recurring, template.cell, headless=template.cell.headless)
        if at_once and continued is None:
            recurring.run_now()

    def _pause(self, recurring: RecurringTask, reason: str) -> None:
        recurring.disable(reason)
        for run in recurring.instances:
            self.manager.cancel_task(run, running=False, reason=reason)

    def _continued(self, template: CellRun, schedule: Schedule | str) -> RecurringTask | None:
        """The schedule that the cell had in an earlier kernel, with its counters and next time.

        None unless the environment asks for it, as `nbtasks run` does, which runs the cells again in a new kernel.
        """
        history = self.manager.history
        if os.environ.get(CONTINUE_SCHEDULES) != "1" or history is None:
            return None
        text = str(parse_schedule(schedule) if isinstance(schedule, str) else schedule)
        for offer in offered_schedules(self.manager):
            details = offer.details
            same = offer.name == template.name and "lost" not in details and details["schedule"][0] == text
            if same and details["work"].get("cell") == template.source and history.claim(offer):
                continued: RecurringTask = self.manager.restore_recurring_task(offer.name, offer.id, details, template)
                return continued
        return None

    def wait_in_cell(self, task: CellTask, *, quiet: bool) -> None:
        """Block the foreground cell until the task is finished and its panel shows that."""
        with self.panels.while_waiting([] if quiet else [task]):
            self.manager.wait(task)
        if not quiet:
            self.panels.update(task)

    def wait_for_all(self, tasks: Sequence[Task], *, quiet: bool) -> None:
        """Block the foreground cell until the tasks are finished and their panel shows that."""
        with self.panels.while_waiting([] if quiet else tasks):
            self.manager.wait(*tasks)
        if not quiet:
            for task in tasks:
                self.panels.update(task)

    def _show_launched(self, task: CellTask | RecurringTask, cell: LaunchingCell, *, headless: bool) -> None:
        if headless:
            self.slots.open(task, cell)
        else:
            self.panels.show(task, cell)

    def _schedules_of(self, cell: LaunchingCell, name: str | None = None) -> list[RecurringTask]:
        """The schedules that were launched from the cell, and those of any cell that have this name."""
        found = []
        for one in self.manager.list_recurring_tasks():
            if isinstance(one.template, CellRun):
                same_cell = cell.cell_id is not None and one.template.cell.cell_id == cell.cell_id
                if same_cell or one.name == name:
                    found.append(one)
        return found

    def unseen_failures(self) -> list[CellTask]:
        """The cells that have failed and that no code has waited for; of each name the newest."""
        newest = {task.name: task for task in self.manager.list_tasks() if isinstance(task, CellTask)}
        failed = [task for task in newest.values() if task.state is TaskState.FAILED and task.parent_id is None]
        return [task for task in failed if not task.waited_for]

    def awaited_tasks(self) -> list[Task]:
        """The tasks that the end of a program's run waits for: all but detached ones, and the unseen failures."""
        tasks: list[Task] = [*self.unseen_failures(), *self.manager.active_tasks]
        return [task for task in tasks if not (isinstance(task, CellTask) and task.detached)]

    # -- running again --------------------------------------------------------------------------------------------

    def run_again(self, task: Task) -> None:
        """Run a finished task once more, as a new task whose output and panel are shown in the current cell."""
        here = self.kernel.launching_cell()
        self.panels.show(self._add_again(task, here), here)

    def run_all_again(self, tasks: Sequence[Task]) -> list[Task]:
        """Run finished tasks once more, as new tasks, with one panel in the current cell."""
        again = [self._add_again(task, self.kernel.launching_cell()) for task in tasks]
        self.show_tasks(again)
        return again

    def retry(self, task: Task) -> None:
        """Run a finished task once more, as a new task; a cell shows it where it showed the first one."""
        again = self._add_again(task, None)
        if isinstance(again, CellTask) and self.kernel.exists:
            self.panels.show(again, again.cell, alone=True)

    def _add_again(self, task: Task, cell: LaunchingCell | None) -> Task:
        if not isinstance(task, CellTask):
            return self.manager.add_task(task.clone())
        cell = cell or task.cell
        # A run of a sweep shares its cell with others, and its output is shown in the rows of their panel.
        output = Output(functools.partial(self.kernel.send, cell) if task.commits else None, self.publisher)
        again = run_once(task, cell=cell, output=output)
        self._keep_panel(again.output, again, cell)
        return self.manager.add_task(again)

    # -- schedules ------------------------------------------------------------------------------------------------

    def restored_template(self, record: ScheduleRecord) -> CellRun | None:
        """The template of a recurring cell that an earlier kernel recorded; None for other records."""
        return restored_template(record.details["work"], self.notebook, self.kernel.launching_cell(), self.publisher)

    def repeatable(self) -> list[str]:
        """Names of tasks that can be put on a schedule and have none, the newest first."""
        return list(self._newest_repeatable())[:MOST_REPEATABLE]

    def repeat(self, name: str, schedule: str, timezone: str) -> RecurringTask:
        """Put the newest task of that name on a schedule; a cell shows the output of the newest run.

        Raises InvalidValueError if there is no such task, and the errors of `add_recurring_task`.
        """
        task = self._newest_repeatable().get(name)
        if task is None:
            raise InvalidValueError(f"no task {name!r} that can be put on a schedule")
        if not task.done:
            raise InvalidValueError(f"{name!r} is {task.state.value}: wait for it before putting it on a schedule")
        if not isinstance(task, CellTask):
            return self.manager.add_recurring_task(schedule, task.clone(), timezone=timezone)
        template = repeated(task, functools.partial(self.kernel.send, task.cell), self.publisher)
        recurring = self.manager.add_recurring_task(schedule, template, timezone=timezone)
        template.runs.header = functools.partial(self.panels.header_if_cleared, recurring, task.cell)
        template.runs.takes_over = functools.partial(self.panels.header, recurring, task.cell)
        if template.output.shows_pages:
            self.panels.show(recurring, task.cell)
        return recurring

    def _newest_repeatable(self) -> dict[str, Task]:
        scheduled = {one.name for one in self.manager.list_recurring_tasks()}
        newest: dict[str, Task] = {}
        for task in reversed(self.manager.list_tasks()):
            if type(task) is not Task and task.parent_id is None and task.name not in scheduled:
                newest.setdefault(task.name, task)
        return newest

    # -- showing in the current cell ------------------------------------------------------------------------------

    def show(self, task: Task) -> None:
        """Show the panel of the task and, of a cell task, its output up to now and from now on.

        Of another task that failed it shows the traceback.
        """
        here = self.kernel.launching_cell()
        self.panels.show(task, here)
        if not isinstance(task, CellTask):
            if task.exception is not None:
                print("\n".join(render_error(self.shell, task.exception)))
            return
        if task.done or not self.kernel.exists:
            display(task.output)
        else:
            header = functools.partial(self.panels.header, task, here)
            task.output.follow(here.key, functools.partial(self.kernel.send, here), header)

    def show_tasks(self, tasks: Sequence[Task]) -> None:
        """Show one panel of all these tasks."""
        here = self.kernel.launching_cell()
        for task in tasks:
            self.panels.show(task, here, output_below=False)

    def show_schedule(self, recurring: RecurringTask) -> None:
        """Show the panel of a recurring task, which has the output of its last runs."""
        self.panels.show(recurring, self.kernel.launching_cell())

    def show_schedules(self, chosen: Sequence[RecurringTask] | None) -> None:
        """Show the controls of the chosen schedules, or of all."""
        self.panels.show_schedules(self.kernel.launching_cell(), chosen, self)

    def show_table(self) -> None:
        """Show the task table."""
        self.panels.show_table(self.kernel.launching_cell())

    def show_history(self, history: History, query: RunQuery, text: str) -> None:
        """Show the runs that a history has; `text` is the same for terminals. Raises HistoryError."""
        self.panels.show_history(self.kernel.launching_cell(), history, query, text)

    def show_timeline(self, span: timedelta | None) -> None:
        """Show the timeline of the last `span`, or from the first start on."""
        self.panels.show_timeline(self.kernel.launching_cell(), span)
