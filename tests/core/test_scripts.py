"""Scripts: each test runs one in an interpreter of its own, up to its exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

STUBBORN = """
import asyncio, threading, time
from nbtasks import Task, current_task, get_manager

manager = get_manager()
begun = threading.Semaphore(0)

def swallows():
    begun.release()
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass

def waits():
    begun.release()
    threading.Event().wait()

async def keeps_on():
    begun.release()
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

async def blocks_its_loop():
    begun.release()
    time.sleep(1000)

class Watched(Task):
    update_sleep_time = 0.01
    def run(self):
        begun.release()
        threading.Event().wait()
    def progress_hook(self):
        time.sleep(1000)

for work in (swallows, waits, keeps_on):
    manager.create_task(work.__name__, work, lane="multiple")
manager.add_task(Watched(name="watched", lane="multiple"))
for _ in range(4):
    assert begun.acquire(timeout=30)
manager.create_task("blocks_its_loop", blocks_its_loop, lane="multiple")
assert begun.acquire(timeout=30)
manager.add_event_callback(lambda *_: time.sleep(1000))
manager.add_recurring_task("1s", lambda: time.sleep(1000))
manager.create_task("late", print, lane="single", after=[manager.list_tasks()[0]])
"""


def run(script: str, code: int = 0, timeout: float = 60, cut_off: str = "") -> str:
    """Output of a script that exits with that code; stderr has only the line on tasks that were cut off."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    expected = f"nbtasks: the end of the process has cut off {cut_off}\n" if cut_off else ""
    assert (done.returncode, done.stderr) == (code, expected), done.stderr
    return done.stdout


def test_run_tasks_serves_until_stop_and_runs_coroutines_of_other_threads_on_its_loop():
    script = """
import asyncio, threading
from nbtasks import TaskManager

async def work(task):
    await asyncio.sleep(0.01)
    return asyncio.get_running_loop()

async def main():
    loop = asyncio.get_running_loop()
    manager = TaskManager()
    serving = asyncio.create_task(manager.run_tasks())
    await asyncio.sleep(0)  # it serves
    here = manager.create_task("made on the loop", work)
    there = await asyncio.to_thread(manager.create_task, "made elsewhere", work)
    print(await here is loop, await there is loop, serving.done())
    manager.stop()
    await asyncio.wait_for(serving, 10)

asyncio.run(main())
print([thread.name for thread in threading.enumerate()])
"""
    assert run(script) == "True True False\n['MainThread']\n"


def test_run_tasks_that_is_cancelled_stops_the_manager():
    script = """
import asyncio
from nbtasks import TaskManager

async def main():
    manager = TaskManager()
    endless = manager.create_task("endless", asyncio.Event().wait)
    try:
        await asyncio.wait_for(manager.run_tasks(), 0.1)
    except TimeoutError:
        print(endless.state, manager)

asyncio.run(main())
"""
    assert run(script) == "cancelled <TaskManager: 1 cancelled, stopped>\n"


def test_a_with_block_leaves_no_task_schedule_or_thread_behind():
    script = """
import asyncio, threading, time
from nbtasks import TaskManager

async def endless():
    await asyncio.Event().wait()

def busy():
    while True:
        pass

with TaskManager() as manager:
    tasks = [manager.create_task("endless", endless), manager.create_task("busy", busy)]
    manager.add_recurring_task("1s", busy)
    manager.add_event_callback(lambda *_: None)
    executor = manager.as_executor()
    executor.submit(busy)
print([task.state.value for task in tasks], len(manager.active_tasks))
limit = time.monotonic() + 20
while threading.active_count() > 1 and time.monotonic() < limit:
    time.sleep(0.01)  # the end of a thread has no event
print([thread.name for thread in threading.enumerate()])
"""
    assert run(script) == "['cancelled', 'cancelled'] 0\n['MainThread']\n"


def test_an_async_with_block_leaves_nothing_behind_either():
    script = """
import asyncio, threading
from nbtasks import TaskManager

async def endless():
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up")

async def main():
    async with TaskManager() as manager:
        task = manager.create_task("endless", endless)
        await asyncio.sleep(0.05)
    print(task.state, len(asyncio.all_tasks()))

asyncio.run(main())
"""
    assert run(script) == "cleaned up\ncancelled 1\n"


def test_plain_code_runs_coroutines_on_a_private_loop_thread():
    script = """
import asyncio, threading
from nbtasks import get_manager

async def work(task):
    await asyncio.sleep(0.01)
    return threading.current_thread().name

print(get_manager().create_task("coroutine", work).wait(10))
"""
    assert run(script) == "nbtasks-loop\n"


def test_an_interpreter_that_exits_does_not_wait_for_tasks_that_never_end():
    start = time.monotonic()
    stubborn = ["swallows", "waits", "keeps_on", "watched", "blocks_its_loop"]
    names = ", ".join([*(f"{name!r} (running)" for name in stubborn), "'late' (pending)"])
    assert run(STUBBORN + "print('end', flush=True)", cut_off=f"6 unfinished tasks: {names}") == "end\n"
    assert time.monotonic() - start < 30  # the sleeps in there are of 1000 seconds


@pytest.mark.parametrize(
    ("end", "code", "cut_off"),
    [("raise SystemExit(3)", 3, "1 unfinished task: 't' (running)"), ("import os; os._exit(4)", 4, "")],
)
def test_an_exit_code_is_the_scripts_own(end, code, cut_off):
    started = (
        "import threading\nfrom nbtasks import get_manager\nget_manager().create_task('t', threading.Event().wait)\n"
    )
    run(started + end, code, cut_off=cut_off)


def test_an_interrupt_ends_a_script_that_serves():
    script = """
import asyncio
from nbtasks import TaskManager

async def endless():
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

async def main():
    manager = TaskManager()
    manager.create_task("endless", endless)
    await manager.run_tasks()

asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == "cleaned up\n"
    assert err.splitlines()[-1] == "KeyboardInterrupt"
