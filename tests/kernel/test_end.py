"""Shutdown and restart of a kernel do not wait for tasks."""

from __future__ import annotations

import time

import pytest

from tests.kernel.notebook import load

ENDLESS = """
import asyncio, threading, time
from nbtasks import get_manager
begun = threading.Semaphore(0)

def endless():
    begun.release()
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass

async def ignores_cancel():
    begun.release()
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

manager = get_manager()
manager.create_task("endless", endless, lane="multiple")
manager.create_task("ignores cancel", ignores_cancel, lane="multiple")
manager.add_recurring_task("1s", endless)
import nbtasks.executor
nbtasks.executor.EXIT_SECONDS = 1000  # a kernel does not wait for calls either
call = manager.as_executor(max_workers=1).submit(endless)
"""


@pytest.mark.parametrize("restart", [True, False])
def test_a_kernel_shuts_down_whatever_runs_in_it(kernel, restart):
    load(kernel)
    kernel.run(ENDLESS).check()
    kernel.run("%%bgtask cell\nbegun.release()\nthreading.Event().wait()").check()
    kernel.run("for _ in range(4): assert begun.acquire(timeout=30)\nawait asyncio.sleep(0)").check()
    start = time.monotonic()
    kernel.request("shutdown_request", {"restart": restart}, channel="control")
    while kernel.alive and time.monotonic() - start < 30:
        time.sleep(0.05)  # the end of a process cannot be awaited
    took = time.monotonic() - start
    assert not kernel.alive, f"the kernel still runs {took:.0f} s after the shutdown request"


def test_a_new_kernel_of_the_notebook_starts_with_no_tasks(start_kernel):
    first = start_kernel()
    load(first)
    first.run("%%bgtask endless\nimport threading\nthreading.Event().wait()").check()
    first.shutdown()
    second = start_kernel()
    load(second)
    assert second.value("__import__('nbtasks').get_manager().list_tasks()") == []


@pytest.mark.parametrize("restart", [True, False])
def test_the_last_pictures_are_sent_before_the_kernel_ends(kernel, restart):
    load(kernel)
    cannot_stop = kernel.run("%%bgtask stays\nimport threading\nthreading.Event().wait()").check()
    stops = kernel.run("%%bgtask stops\nimport time\nwhile True: time.sleep(0.01)").check()
    loop = (
        "for name in 'ab':\n"
        "    get_ipython().run_cell_magic('bgtask', f'{name} --lane multiple', "
        "'import threading\\nthreading.Event().wait()')"
    )
    both = kernel.run(loop).check()
    scheduled = kernel.run("%%bgtask later --every 1h\n1").check()
    table = kernel.run("%bgtask").check()
    assert "as of 2" in cannot_stop.text  # nothing may replace it, if the kernel is killed
    kernel.request("shutdown_request", {"restart": restart}, channel="control")
    cannot_stop.wait_output("[lost with the kernel] stays")
    scheduled.wait_output("[lost with the kernel] later")
    both.wait_output("[2 lost with the kernel] 2 tasks: a, b")
    table.wait_output(lambda cell: "lost" in cell.text)
    assert "[cancelled" in stops.text and "running" not in table.text
    assert "as of" not in cannot_stop.text + stops.text + both.text + scheduled.text
