"""The magics as a user types them: what is refused in one line, what ends only the task, what is steered."""

from __future__ import annotations

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
        ("bad --nosuch", "unrecognized arguments: --nosuch"),
        ("bad --lane fast", "unknown lane 'fast': one of default, multiple, single"),
        ("bad --backend gpu", "unknown backend 'gpu': one of"),
        ("bad --priority high", "--priority takes a whole number, not 'high'"),
        ("bad another", "unrecognized arguments: another"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_started(notebook: KernelDriver, line: str, says: str) -> None:
    cell = notebook.run(f"%%bgtask {line}\nprint('ran')")
    assert cell.reply is not None and cell.reply["status"] == "error"
    assert cell.stderr.startswith("UsageError: ") and says in cell.stderr
    assert cell.stderr.count("\n") == 1 and len(cell.outputs) == 1
    assert notebook.value("[t for t in get_manager().list_tasks() if t.name == 'bad']") == []


@pytest.mark.parametrize("body", ["", "\n", "   \n\n"])
def test_an_empty_cell_is_refused(notebook: KernelDriver, body: str) -> None:
    cell = notebook.run(f"%%bgtask bad\n{body}")
    assert cell.stderr.startswith("UsageError: ") and "empty" in cell.stderr
    assert "bad" not in notebook.run("%bgtask").text


def test_a_syntax_error_shows_as_in_the_foreground_and_starts_nothing(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask bad\nprint('ran')\nx = = 1")
    assert [error.partition(":")[0] for error in cell.errors] == ["SyntaxError"]
    assert cell.stdout == "" and "x = = 1" in "\n".join(cell.outputs[-1]["traceback"])
    assert "bad" not in notebook.run("%bgtask").text


def test_the_name_of_a_running_task_is_refused(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask twice\ngates['twice'].wait()").check()
    cell = notebook.run("%%bgtask twice\nprint('second')")
    assert "UsageError: %%bgtask: the task 'twice' is still running" in cell.stderr
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
def test_a_body_that_raises_exits_or_asks_fails_and_the_kernel_lives(
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


def test_the_list_tells_name_state_and_error(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask listed\nraise ValueError('boom')").check()
    wait_over(notebook, "listed")
    [line] = [line for line in notebook.run("%bgtask").stdout.splitlines() if line.startswith("listed ")]
    assert "failed" in line and "ValueError: boom" in line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nosuch", "there is no command 'nosuch'; there are list, show, wait, cancel"),
        ("cancel", "%bgtask cancel: say which task"),
        ("wait nobody", "there is no task 'nobody'"),
    ],
)
def test_a_wrong_command_is_one_line(notebook: KernelDriver, line: str, says: str) -> None:
    cell = notebook.run(f"%bgtask {line}")
    assert says in cell.stderr and cell.stderr.count("\n") == 1


def test_interrupting_a_wait_leaves_the_task_running(notebook: KernelDriver) -> None:
    for body in (
        "gates['on'].wait()",
        "import asyncio\nwhile not gates['on'].is_set(): await asyncio.sleep(0.01)",
    ):
        notebook.run("gates.pop('on', None)").check()
        notebook.run(f"%%bgtask goes_on\n{body}").check()
        waiting = notebook.start_cell("print('waits', flush=True)\ngoes_on.wait()").wait_output("waits")
        notebook.interrupt()
        assert waiting.wait().errors[0].startswith("KeyboardInterrupt")
        assert notebook.value("goes_on.state.value") == "running"
        notebook.run("gates['on'].set()").check()
        wait_over(notebook, "goes_on")


def test_loading_twice_and_reloading_keep_the_manager_and_its_tasks(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask kept\ngates['kept'].wait()").check()
    notebook.run("before = get_manager()\n%load_ext nbtasks\n%reload_ext nbtasks").check()
    assert notebook.value("nbtasks.get_manager() is before") is True
    notebook.run("gates['kept'].set()").check()
    wait_over(notebook, "kept")
    cell = notebook.run("%%bgtask after_reload --quiet\nprint('lands')").check()
    wait_over(notebook, "after_reload")
    assert cell.stdout == "lands\n"


def test_without_the_extension_everything_is_as_it_was(notebook: KernelDriver) -> None:
    notebook.run("%unload_ext nbtasks").check()
    assert "not found" in notebook.run("%bgtask").stderr
    assert notebook.run("print('plain')").check().stdout == "plain\n"
    notebook.run("%load_ext nbtasks").check()
