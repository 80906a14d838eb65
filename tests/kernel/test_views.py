"""Messages of views, and leaks of closed views, in a real kernel."""

from __future__ import annotations

import time

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

pytestmark = pytest.mark.kernel

# How much there is of what a view might leave behind.
LEFT = """
import gc, threading
from ipywidgets.widgets.widget import _instances
from nbtasks.notebook.extension import loaded
session = loaded(get_ipython()).session
def left():
    gc.collect()
    live = session.panels._live
    return {
        "models": len(_instances),
        "comms": len(get_ipython().kernel.comm_manager.comms),
        "threads": len([t for t in threading.enumerate() if t.name.startswith("nbtasks-events")]),
        "subscriptions": len(get_manager().bus.listeners),
        "views": 0 if live is None else sum(map(len, live._views.values())),
        "dirty": 0 if live is None else len(live._dirty) + len(live._urgent),
        "objects": len(gc.get_objects()),
    }
"""
# As the writer opens them for cells, and as a re-run of the cell closes them.
OPEN = """
from nbtasks.notebook.kernel import LaunchingCell
cell = session.kernel.launching_cell()
def open_and_close(times):
    for _ in range(times):
        session.panels.show(done, cell, alone=True)
        session.panels._close_earlier(cell.key)
def open_tables(times):
    for _ in range(times):
        session.panels.show_table(cell)
"""
# Such floods of messages may be dropped on iopub, so that what is waited for is the reply, as `value` does.


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


@pytest.mark.long
def test_a_thousand_panels_opened_and_closed_leave_nothing(notebook: KernelDriver) -> None:
    notebook.run(LEFT).check()
    notebook.run("done = get_manager().create_task('done', str); done.wait()").check()
    notebook.run(OPEN).check()
    notebook.value("open_and_close(50)")
    before = notebook.value("left()")
    for _ in range(4):
        notebook.value("open_and_close(250)")
    after = notebook.value("left()")
    objects = after.pop("objects") - before.pop("objects")
    assert after == before
    assert objects < 2_000  # a panel has thousands


def test_tables_opened_again_and_again_leave_nothing(notebook: KernelDriver) -> None:
    notebook.run(LEFT).check()
    notebook.run("for n in range(20): get_manager().create_task(f't{n}', str)").check()
    notebook.run(OPEN).check()
    notebook.value("open_tables(3)")
    before = notebook.value("left()")
    notebook.value("open_tables(30)")
    after = notebook.value("left()")
    objects = after.pop("objects") - before.pop("objects")
    assert after == before
    assert objects < 3_000  # a table has tens of thousands


SECONDS = 5
LOAD = """
import time
manager, stop = get_manager(), threading.Event()
manager.max_succeeded_tasks = None
manager.resize_lane('multiple', 100)
async def reports():
    import asyncio
    task, n = current_task(), 0
    while not stop.is_set():  # as many reports as a hundred threads would make, from one loop
        for _ in range(10):
            n += 1
            task.progress = n % 100
        await asyncio.sleep(0.01)
tasks = [manager.create_task(f'busy {n}', reports, lane='multiple') for n in range(100)]
waiting = [manager.create_task(f'waits {n}', stop.wait, lane='single') for n in range(9_900)]
"""


def test_all_views_together_send_at_most_twelve_messages_a_second(notebook: KernelDriver) -> None:
    """Eleven views of ten thousand tasks, of which a hundred report a thousand times a second."""
    notebook.run(LOAD).check()
    for number in range(10):
        notebook.run(f"tasks[{number}]").check()
    notebook.run("%bgtask").check()
    notebook.wait_until(lambda: len(notebook.find_models("FloatProgressModel")) == 10)
    time.sleep(3)  # the opening of the views is paid for by then
    start = time.monotonic()
    time.sleep(SECONDS)
    with notebook.changed:
        sent = [a for a in notebook.messages if a.channel == "iopub" and start <= a.at < start + SECONDS]
    assert SECONDS <= len(sent) <= 12 * SECONDS
    notebook.run("stop.set()").check()
