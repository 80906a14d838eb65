"""The magics `%%bgtask` and `%bgtask`: options, errors, `exit`, cancel, commands."""

from __future__ import annotations

import re

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bad --nosuch", "%%bgtask: unrecognized arguments: --nosuch; %%bgtask? lists the options"),
        ("bad --lne single", "unrecognized arguments: --lne single; did you mean --lane? %%bgtask? lists"),
        ("bad --bakend=process", "did you mean --backend?"),
        ("bad --priority", "argument --priority: expected one argument; %%bgtask? lists"),
        ("bad --lane fast", "unknown lane 'fast': one of default, multiple, single"),
        ("bad --backend gpu", "unknown backend 'gpu': one of"),
        ("bad --priority high", "--priority must be a whole number, not 'high'"),
        ("bad another", "unrecognized arguments: another"),
        ("bad --timeout soon", "'soon' is not an interval"),
        ("bad --timeout 0s", "longer than zero"),
        ("bad --retries many", "--retries must be a whole number from 0 on, not 'many'"),
        ("bad --retries -1", "--retries must be a whole number from 0 on, not -1"),
        ("bad --after missing", "%%bgtask --after: unknown task 'missing'"),
        ("bad --detach --wait", "--detach cannot be combined with --wait"),
        ("bad --if-running wait", "--if-running must be error, skip, replace or queue, not 'wait'"),
    ],
)
def test_a_wrong_option_is_a_one_line_error_and_starts_nothing(notebook: KernelDriver, line: str, says: str) -> None:
    cell = notebook.run(f"%%bgtask {line}\nprint('ran')")
    assert cell.reply is not None and cell.reply["status"] == "error"
    assert cell.stderr.startswith("UsageError: ") and says in cell.stderr
    assert cell.stderr.count("\n") == 1 and len(cell.outputs) == 1
    assert notebook.value("[t for t in get_manager().list_tasks() if t.name == 'bad']") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("wait --no-rase", "%bgtask wait: unrecognized arguments: --no-rase; did you mean --no-raise?"),
        ("history --sinse 2d", "arguments: --sinse; did you mean --since? %bgtask help lists the options"),
        ("serve --pot 1", "did you mean --port?"),
        ("export x --notbook n", "did you mean --notebook?"),
        ("cancel --all", "%bgtask cancel: takes task names and no option --all; see %bgtask help"),
        ("pause --all", "%bgtask pause: takes schedule names and no option --all; see %bgtask help"),
    ],
)
def test_a_wrong_option_of_a_command_names_the_nearest_one(notebook: KernelDriver, line: str, says: str) -> None:
    cell = notebook.run(f"%bgtask {line}")
    assert cell.stderr.startswith("UsageError: ") and says in cell.stderr and cell.stderr.count("\n") == 1


@pytest.mark.parametrize("body", ["", "\n", "   \n\n"])
def test_an_empty_cell_is_refused(notebook: KernelDriver, body: str) -> None:
    cell = notebook.run(f"%%bgtask bad\n{body}")
    assert cell.stderr.startswith("UsageError: ") and "empty" in cell.stderr
    assert "bad" not in notebook.run("%bgtask list").text


def test_a_syntax_error_shows_as_in_the_foreground_and_starts_nothing(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask bad\nprint('ran')\nx = = 1")
    assert [error.partition(":")[0] for error in cell.errors] == ["SyntaxError"]
    assert cell.stdout == "" and "x = = 1" in "\n".join(cell.outputs[-1]["traceback"])
    assert "bad" not in notebook.run("%bgtask list").text


def test_the_name_of_a_running_task_is_refused(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask twice\ngates['twice'].wait()").check()
    cell = notebook.run("%%bgtask twice\nprint('second')")
    assert "UsageError: %%bgtask: 'twice' is still running" in cell.stderr
    notebook.run("gates['twice'].set()").check()
    wait_over(notebook, "twice")
    notebook.run("%%bgtask twice\n2").check()
    wait_over(notebook, "twice")
    assert notebook.value("twice.result") == 2


def test_a_name_that_the_cell_itself_binds_is_refused(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask model\nmodel = 1")
    assert "the cell itself binds 'model'" in cell.stderr


def test_a_name_that_is_an_identifier_is_bound_to_the_task(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask bound --quiet\n1").check()
    notebook.run("%%bgtask not-bound --quiet\n1").check()
    assert "bound" in notebook.value("bound.name")
    wait_over(notebook, "bound", "not-bound")


def test_unnamed_tasks_are_numbered(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask --quiet\n1").check()
    notebook.run("%%bgtask --quiet\n1").check()
    listed = notebook.run("%bgtask list").stdout
    assert "bg1" in listed and "bg2" in listed


@pytest.mark.parametrize("backend", ["thread", "loop"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit()", "exit() ends the task"),
        ("exit", "exit() ends the task"),
        ("import sys; sys.exit(3)", "3"),
        ("input('name? ')", "input() was called in a background cell"),
        ("import getpass; getpass.getpass()", "getpass() was called in a background cell"),
        ("breakpoint()", "breakpoint() was called in a background cell"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_cell_that_raises_exits_or_asks_for_input_fails_and_the_kernel_survives(
    notebook: KernelDriver, body: str, error: str, backend: str
) -> None:
    notebook.run(f"%%bgtask failing --backend {backend}\n{body}").check()
    wait_over(notebook, "failing")
    assert notebook.value("failing.state.value") == "failed"
    assert error in str(notebook.value("failing.error"))
    assert notebook.alive and notebook.run("1 + 1").check().outputs


def test_input_in_the_foreground_still_works(notebook: KernelDriver) -> None:
    cell = notebook.start_cell("answer = input('?')")
    notebook.wait_until(lambda: notebook.input_requests, what="the question")
    notebook.answer_input("42")
    cell.check()
    assert notebook.value("answer") == "42" or notebook.value("answer") == 42


def test_cancel_stops_a_running_cell(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask endless\ngates['endless'].set()\nwhile True: pass").check()
    notebook.run("gates['endless'].wait()").check()
    notebook.run("%bgtask cancel endless").check()
    wait_over(notebook, "endless")
    assert notebook.value("endless.state.value") == "cancelled"


@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_cancel_stops_a_cell_that_awaits(notebook: KernelDriver, backend: str) -> None:
    notebook.run(
        f"%%bgtask sleeper --backend {backend}\nimport asyncio\ngates['{backend}'].set()\nawait asyncio.sleep(3600)"
    ).check()
    notebook.run(f"import asyncio\nwhile not gates['{backend}'].is_set(): await asyncio.sleep(0.01)").check()
    notebook.run("%bgtask cancel sleeper").check()
    wait_over(notebook, "sleeper")
    assert notebook.value("sleeper.state.value") == "cancelled"


def test_the_list_shows_name_state_and_error(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask listed\nraise ValueError('boom')").check()
    wait_over(notebook, "listed")
    [line] = [line for line in notebook.run("%bgtask list").stdout.splitlines() if line.startswith("listed ")]
    assert "failed" in line and "ValueError: boom" in line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("shows", "%bgtask: unknown command 'shows': one of adopt, cancel, debug, "),
        ("cancel", "%bgtask cancel: task name required"),
        ("wait missing", "%bgtask wait: unknown task 'missing'"),
        ("pause", "%bgtask pause: schedule name required"),
        ("pause missing", "%bgtask pause: unknown schedule 'missing': there are no schedules"),
        ("list all", "%bgtask list: takes no names, not 'all'"),
    ],
)
def test_a_wrong_command_is_a_one_line_error(notebook: KernelDriver, line: str, says: str) -> None:
    cell = notebook.run(f"%bgtask {line}")
    assert says in cell.stderr and cell.stderr.count("\n") == 1


def test_interrupting_a_wait_leaves_the_task_running(notebook: KernelDriver) -> None:
    for body in (
        "gates['on'].wait()",
        "import asyncio\nwhile not gates['on'].is_set(): await asyncio.sleep(0.01)",
    ):
        notebook.run("gates.pop('on', None)").check()
        notebook.run(f"%%bgtask it\n{body}").check()
        waiting = notebook.start_cell("print('waits', flush=True)\nit.wait()").wait_output("waits")
        notebook.interrupt()
        assert waiting.wait().errors[0].startswith("KeyboardInterrupt")
        assert notebook.value("it.state.value") == "running"
        notebook.run("gates['on'].set()").check()
        wait_over(notebook, "it")


@pytest.mark.parametrize("line", ["it.wait()", "%bgtask wait it", "await it"])
def test_interrupting_a_wait_does_not_interrupt_a_coroutine_that_computes(notebook: KernelDriver, line: str) -> None:
    notebook.run("gates.clear()").check()
    computes = notebook.run(
        "%%bgtask it\nimport asyncio\nwhile not gates['on'].is_set():\n    sum(range(1_000_000))\n"
        "    if gates['waits'].is_set(): print('computes')\n    await asyncio.sleep(0)\n'the result'"
    ).check()
    waiting = notebook.start_cell(f"gates['waits'].set()\n{line}")
    computes.wait_output("computes")
    notebook.interrupt()
    assert waiting.wait().errors[0].startswith(("KeyboardInterrupt", "CancelledError"))
    assert notebook.value("it.state.value") == "running"
    notebook.run("gates['on'].set()\nawait it").check()
    assert notebook.value("it.result") == "the result"


def test_after_waits_for_the_named_tasks(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask first --quiet\ngates['first'].wait()\nordered = ['first']").check()
    notebook.run("%%bgtask second --quiet --after first\nordered = [*ordered, 'second']").check()
    assert notebook.value("second.state.value") == "pending"
    notebook.run("gates['first'].set()").check()
    wait_over(notebook, "second")
    assert notebook.value("ordered") == ["first", "second"]


def test_a_timeout_fails_the_task_with_an_error(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask slow --quiet --timeout 50ms\nwhile True: pass").check()
    wait_over(notebook, "slow")
    assert cell.errors == ["TaskTimeoutError: 'slow' ran longer than its timeout of 0.05 s"]


def test_with_wait_an_error_of_nbtasks_in_the_cell_is_no_usage_error(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask slow --quiet --wait --timeout 50ms\nwhile True: pass")
    [error] = cell.errors
    assert error.startswith("TaskTimeoutError: 'slow'") and "UsageError" not in cell.text


def test_retries_report_each_failure_in_one_line_and_show_the_last_error(notebook: KernelDriver) -> None:
    notebook.run("tries = []").check()
    cell = notebook.run("%%bgtask flaky --quiet --retries 1\ntries.append(1)\n1 / 0").check()
    wait_over(notebook, "flaky")
    assert cell.stderr == "nbtasks: attempt 1 of 2 failed: ZeroDivisionError: division by zero\n"
    assert cell.errors == ["ZeroDivisionError: division by zero"] and notebook.value("len(tries)") == 2


def test_a_rerun_of_an_unnamed_cell_is_recognised_by_the_cell(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask --quiet\ngates['rerun'].wait()", cell_id="one-cell").check()
    assert "is still running" in notebook.run("%%bgtask --quiet\n1", cell_id="one-cell").stderr
    skipped = notebook.run("%%bgtask --quiet --if-running skip\n1", cell_id="one-cell").check()
    assert skipped.stdout.startswith("skipped: 'bg") and cell.replaced
    queued = notebook.run("%%bgtask --quiet --if-running queue\nprint('queued')", cell_id="one-cell").check()
    notebook.run("gates['rerun'].set()").check()
    wait_over(notebook)
    queued.wait_output("queued\n")


def test_a_queued_run_starts_although_the_run_before_failed(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask line --quiet\ngates['line'].wait()\n1 / 0").check()
    cell = notebook.run("%%bgtask line --quiet --if-running queue\nprint('next')").check()
    notebook.run("gates['line'].set()").check()
    wait_over(notebook, "line")
    assert cell.stdout == "next\n"


def test_a_replaced_run_is_cancelled(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask old --quiet\nwhile True: pass").check()
    notebook.run("before = old").check()
    notebook.run("%%bgtask old --quiet --if-running replace\n'new'").check()
    wait_over(notebook)
    assert notebook.value("(before.state.value, old.result)") == ("cancelled", "new")


def test_retry_runs_a_failed_cell_again_here(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask again --quiet\nprint('runs')\nif not gates['fixed'].is_set(): 1 / 0").check()
    wait_over(notebook, "again")
    notebook.run("gates['fixed'].set()").check()
    here = notebook.run("%bgtask retry again").check()
    here.wait_output("runs").wait_output("[completed] again")
    assert "is still" not in here.stderr


def test_debug_opens_the_debugger_where_the_task_failed(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask broken --quiet\nlocal = 41\nlocal / 0").check()
    wait_over(notebook, "broken")
    requests = len(notebook.input_requests)
    cell = notebook.start_cell("%bgtask debug broken")
    for number, answer in enumerate(["p local + 1", "q"], requests + 1):
        notebook.wait_until(lambda number=number: len(notebook.input_requests) >= number, what="the debugger")
        notebook.answer_input(answer)
    assert "42" in cell.wait().text
    notebook.run("%%bgtask fine --quiet\n1").check()
    wait_over(notebook, "fine")
    assert "there is no error to debug" in notebook.run("%bgtask debug fine").stderr


def test_the_cell_magic_explains_its_options(notebook: KernelDriver) -> None:
    shown = notebook.run("%%bgtask helped --help\n1").check().stdout
    assert "%%bgtask [--backend BACKEND]" in shown and "memory limit of a cell" in shown
    assert notebook.value("'helped' in globals()") is False
    docstring = notebook.value("get_ipython().object_inspect('%%bgtask')['docstring']")  # as `%%bgtask?` does
    assert docstring.split() == shown.split()


def test_help_lists_every_command_with_a_line(notebook: KernelDriver) -> None:
    shown = notebook.run("%bgtask help").check().stdout
    commands = [line for line in shown.splitlines() if line.startswith("%bgtask ")]
    assert {line.split()[1] for line in commands} - {"Show"} <= set(notebook.complete("%bgtask "))
    assert len(commands) == 21 and [line for line in commands if len(line.split()) < 4 or len(line) > 120] == []
    assert notebook.run("%bgtask --help").check().stdout == shown


def test_tab_completes_commands_and_names(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask findable --quiet\n1").check()
    assert notebook.complete("%bgtask ca") == ["cancel"]
    assert "findable" in notebook.complete("%bgtask wait find")


def test_the_pager_shows_below_the_panel(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask asks\nlen?").check()
    wait_over(notebook, "asks")
    cell.wait_output("Return the number of items")
    other = notebook.run("%%bgtask asks --quiet\nlen?").check()
    wait_over(notebook, "asks")
    assert other.outputs == []


def test_prune_removes_finished_tasks(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask gone --quiet\n1 / 0").check()
    wait_over(notebook, "gone")
    assert re.fullmatch(r"pruned \d+ tasks?\n", notebook.run("%bgtask prune").check().stdout)
    assert "gone" not in notebook.run("%bgtask list").stdout


@pytest.mark.parametrize(
    ("body", "backend"),
    [
        ("current_task()", "thread"),
        ("from nbtasks import current_task as now\nnow()", "thread"),
        ("def create_task(): ...\ncreate_task()", "thread"),
        ("def later(): return asyncio.create_task(work())", "thread"),
        ("asyncio.current_task()", "loop"),
        ("aio.get_running_loop()", "loop"),
        ("in_notebook()", "loop"),
        ("from asyncio import ensure_future as later\nlater(work())", "loop"),
        ("import asyncio as other\nother.all_tasks()", "loop"),
        ("await asyncio.sleep(0)", "loop"),
    ],
)
def test_a_cell_goes_to_the_loop_if_it_awaits_or_calls_what_needs_one(
    notebook: KernelDriver, body: str, backend: str
) -> None:
    notebook.run(
        "import asyncio, asyncio as aio\nfrom nbtasks import current_task\n"
        "async def work(): ...\nin_notebook = asyncio.current_task"
    ).check()
    notebook.run(f"%%bgtask there --quiet --wait\n{body}").check()
    assert notebook.value("there.backend") == backend


@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_the_value_of_a_cell_is_shown_and_not_awaited(notebook: KernelDriver, backend: str) -> None:
    notebook.run("async def answer(): return 42").check()
    cell = notebook.run(f"%%bgtask shown --quiet --wait --backend {backend}\nanswer()").check()
    assert cell.outputs[0]["data"]["text/plain"].startswith("<coroutine object answer")
    assert notebook.run("await shown.result").outputs[0]["data"]["text/plain"] == "42"
