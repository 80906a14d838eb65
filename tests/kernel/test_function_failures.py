"""Failures of function tasks: one line in the cell that created them."""

from __future__ import annotations

import re

from tests.kernel.notebook import load

CREATE = """
import threading, time
from nbtasks import get_manager
go = threading.Event()
def half(x):
    return x / 0
def work():
    go.wait(60)
    return half(1)
async def on_the_loop():
    raise KeyError("absent")
bad = get_manager().create_task("bad", work)
"""


def test_a_failed_function_is_one_line_where_it_was_created_and_show_has_the_traceback(kernel):
    load(kernel)
    created = kernel.run(CREATE).check()
    later = kernel.run("go.set()\ntime.sleep(0.2)").check()
    created.wait_output("failed")
    assert created.stderr == "task 'bad' failed: ZeroDivisionError: division by zero (%bgtask show bad)\n"
    assert later.outputs == []
    shown = kernel.run("%bgtask show bad").check()
    traceback = re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout)
    assert "return x / 0" in traceback and "return half(1)" in traceback
    assert "nbtasks" not in traceback
    kernel.run("go.clear()").check()
    after = kernel.run("looped = get_manager().create_task('looped', on_the_loop)").check()
    after.wait_output("task 'looped' failed: KeyError: 'absent' (%bgtask show looped)\n")


def test_a_function_of_a_background_cell_fails_in_that_cell(kernel):
    load(kernel)
    kernel.run(CREATE).check()
    kernel.run("1 + 1").check()
    create = "inner = get_manager().create_task('inner', lambda: half(1))"
    cell = kernel.run(f"%%bgtask again\n{create}\ngo.wait(60)").check()
    later = kernel.run("1 + 1").check()
    cell.wait_output("task 'inner' failed: ZeroDivisionError")
    kernel.run("go.set()").check()
    assert later.stderr == ""


def test_a_launching_cell_run_twice_shows_the_running_task_and_its_output(kernel):
    load(kernel)
    first = kernel.run("%%bgtask it\nprint('begun')\ngates['go'].wait()").check()
    first.wait_output("begun")
    again = kernel.rerun(first)
    assert "[running] it" in again.text and "it' is still running" in again.text
    again.wait_output("begun")
    kernel.run("%bgtask cancel it").check()
    kernel.run("gates['go'].set()").check()  # a thread that waits for a lock is interrupted when it has it
    again.wait_output("cancelled")
