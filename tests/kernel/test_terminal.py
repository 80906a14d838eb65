"""Tasks in IPython's terminal, where no event loop runs between two lines."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("pexpect", reason="IPython's terminal is driven by pexpect, which needs a pseudo-terminal")

from tests.kernel.conftest import kernel_env
from tests.kernel.terminal import Terminal


@pytest.fixture(scope="module")
def terminal(tmp_path_factory) -> Iterator[Terminal]:
    home = tmp_path_factory.mktemp("terminal")
    with Terminal(kernel_env(home), home) as terminal:
        terminal.run("import asyncio, threading, time, nbtasks; from nbtasks import get_manager")
        terminal.run("%load_ext nbtasks")
        terminal.run("async def where(): return await asyncio.sleep(0.01, threading.current_thread().name)")
        yield terminal


def test_a_coroutine_runs_on_the_loop_thread_and_can_be_waited_for(terminal):
    terminal.run("t = get_manager().create_task('t', where)")
    assert "'nbtasks-loop'" in terminal.run("t.wait(30)")
    assert "'nbtasks-loop'" in terminal.run("await t")


def test_a_coroutine_started_by_a_line_with_await_runs_on_after_the_line(terminal):
    terminal.run("t = get_manager().create_task('t', where); await asyncio.sleep(0)")
    assert "'nbtasks-loop'" in terminal.run("t.wait(30)")
    terminal.run("both = get_manager().create_task('both', lambda: where()); await asyncio.sleep(0)")
    assert "'nbtasks-loop'" in terminal.run("both.wait(30)")


def test_a_background_cell_prints_at_once_and_commits_its_names(terminal):
    terminal.run("%%bgtask fit\ntime.sleep(0.2)\nanswer = 6 * 7\nprint('worked', 'out')\nanswer")
    terminal.read_until("worked out")
    assert terminal.run("await fit; print(answer)").endswith("42")
    assert "completed" in terminal.run("%bgtask list")


@pytest.mark.parametrize("backend", ["thread", "loop", "process"])
def test_a_finished_cell_shows_its_value_and_a_failed_one_its_traceback(terminal, backend):
    shown = terminal.run_until(f"%%bgtask value --backend {backend}\nprint('some text')\n6 * 7 * 1000", "42000")
    assert "some text" in shown
    terminal.run("await value")
    cell = f"%%bgtask broken --backend {backend}\ndef fail(): return 1 / 0\nfail()"
    shown = terminal.run_until(cell, "ZeroDivisionError: division by zero")
    assert "Traceback (most recent call last)" in shown and "fail()" in shown
    terminal.run("%bgtask wait --no-raise broken")


def test_notes_of_nbtasks_are_shown(terminal):
    shown = terminal.run_until("%%bgtask flaky --retries 1\n1 / 0", "Traceback (most recent call last)")
    assert "attempt 1 of 2 failed: ZeroDivisionError" in shown
    terminal.run("%bgtask wait --no-raise flaky")


def test_a_task_is_cancelled_by_a_line(terminal):
    terminal.run("t = get_manager().create_task('endless', asyncio.Event().wait)")
    assert "True" in terminal.run("t.cancel()")
    assert "cancelled" in terminal.run("get_manager().wait(t, timeout=30); t")


def test_an_interrupt_ends_a_wait_and_leaves_the_task_running(terminal):
    terminal.run("t = get_manager().create_task('endless', asyncio.Event().wait)")
    assert "KeyboardInterrupt" in terminal.interrupt_once("print('wait' + 'ing', flush=True); t.wait()", "waiting")
    assert "'running'" in terminal.run("t.state.value")
    assert "True" in terminal.run("t.cancel()")


def test_exit_does_not_wait_for_running_tasks(tmp_path):
    with Terminal(kernel_env(tmp_path), tmp_path) as terminal:
        terminal.run("import asyncio, threading; from nbtasks import get_manager")
        terminal.run("%load_ext nbtasks")
        terminal.run("begun = threading.Semaphore(0)")
        terminal.run("t = get_manager().create_task('thread', lambda: (begun.release(), threading.Event().wait()))")
        terminal.run("t = get_manager().create_task('loop', asyncio.Event().wait)")
        terminal.run("%%bgtask cell\nbegun.release()\nthreading.Event().wait()")
        assert "True" in terminal.run("begun.acquire(timeout=30) and begun.acquire(timeout=30)")
        start = time.monotonic()
        assert terminal.exit() == 0
        assert time.monotonic() - start < 20
