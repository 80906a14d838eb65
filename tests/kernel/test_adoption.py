"""Sending a running cell to the background: what it and the cells behind it do."""

from __future__ import annotations

import pytest

from tests.kernel.adoption import Rounds, adopt
from tests.kernel.cell import Output
from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

WAITS = "print('first')\ngates[{name!r}].wait()\nprint('last')\n'the value'"
AWAITS = "print('first')\nwhile not gates[{name!r}].is_set(): await asyncio.sleep(0.005)\nprint('last')\n'the value'"


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    if not kernel.supports_subshells:
        pytest.skip("running cells are sent to the background by ipykernel 7.0 and later")
    load(kernel)
    kernel.run("import asyncio, time\nmain_loop = asyncio.get_running_loop()").check()
    return kernel


@pytest.fixture
def subshell(notebook: KernelDriver) -> str:
    return notebook.create_subshell()


def start(notebook: KernelDriver, name: str, code: str = WAITS) -> Cell:
    return notebook.start_cell(code.format(name=name)).wait_output("first")


def results(cell: Cell) -> list[tuple[int, str]]:
    return [
        (output["execution_count"], output["data"]["text/plain"])
        for output in cell.outputs
        if output["output_type"] == "execute_result"
    ]


def state(notebook: KernelDriver, name: str) -> str:
    return str(notebook.value(f"get_manager().search_tasks(name={name!r})[-1].state.value"))


def is_image(output: Output) -> bool:
    return "image/png" in output.get("data", {})


@pytest.mark.parametrize("code", [WAITS, AWAITS], ids=["blocks", "awaits"])
def test_the_cells_behind_run_and_its_output_comes_home(notebook: KernelDriver, subshell: str, code: str) -> None:
    cell = start(notebook, "gate", code)
    queued = notebook.start_cell("print('queued')\n'queued value'")
    assert not adopt(notebook, "long", subshell=subshell).refused
    later = notebook.start_cell("display('later')\nlong.state.value")
    assert queued.wait().ok and later.wait().ok
    assert queued.text == "queued\n'queued value'\n"
    assert "'later'" in later.text and [text for _, text in results(later)] == ["'running'"]
    assert not cell.done and cell.stdout == "first\n"
    notebook.run("gates['gate'].set()").check()
    cell.check()
    assert cell.stdout == "first\nlast\n"
    counts = [one.reply["execution_count"] for one in (cell, queued, later)]  # type: ignore[index]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    assert results(cell) == [(counts[0], "'the value'")] and results(queued) == [(counts[1], "'queued value'")]
    assert notebook.value(f"(Out[{counts[0]}], Out[{counts[1]}])") == ("the value", "queued value")
    assert notebook.value(f"[In[n].splitlines()[0] for n in {counts}]") == [
        "print('first')",
        "print('queued')",
        "display('later')",
    ]
    assert notebook.value("(long.state.value, long.result)") == ("completed", "the value")
    on_main = notebook.run("threading.current_thread() is threading.main_thread()").check()
    assert [text for _, text in results(on_main)] == ["True"]


def test_its_error_is_at_home_and_aborts_no_other_cell(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate", "print('first')\ngates[{name!r}].wait()\n1 / 0")
    assert not adopt(notebook, "fails", subshell=subshell).refused
    opens = notebook.start_cell("gates['gate'].set()\ntime.sleep(0.2)\nprint('opened')")
    behind = [notebook.start_cell(f"print({number})") for number in range(5)]
    assert cell.wait().errors == ["ZeroDivisionError: division by zero"]
    assert cell.reply["status"] == "error" and cell.reply["traceback"]  # type: ignore[index]
    assert opens.check().stdout == "opened\n"
    assert [one.check().stdout for one in behind] == [f"{number}\n" for number in range(5)]
    wait_over(notebook, "fails")
    assert state(notebook, "fails") == "failed"


def test_an_error_behind_it_aborts_the_cells_after_that_one(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate")
    fails = notebook.start_cell("1 / 0")
    aborted = [notebook.start_cell(f"print({number})") for number in range(3)]
    assert not adopt(notebook, subshell=subshell).refused
    assert fails.wait().errors == ["ZeroDivisionError: division by zero"]
    notebook.wait_until(lambda: all(one.reply for one in aborted))
    assert {one.reply["status"] for one in aborted} == {"aborted"}  # type: ignore[index]
    assert notebook.run("print('runs')").check().stdout == "runs\n"
    notebook.run("gates['gate'].set()").check()
    cell.check()


def test_interrupt_is_for_the_foreground_cell_and_never_for_the_one_away(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate")
    assert not adopt(notebook, "away", subshell=subshell).refused
    for code in ("print('runs')\nwhile True: pass", "print('runs')\nawait asyncio.sleep(3600)"):
        foreground = notebook.start_cell(code).wait_output("runs")
        notebook.interrupt()
        assert foreground.wait().errors[0].partition(":")[0] in ("KeyboardInterrupt", "CancelledError")
    notebook.interrupt()  # no foreground cell runs
    notebook.run("pass")  # it may arrive only now
    assert notebook.run("away.state.value").check().text == "'running'\n"
    notebook.run("gates['gate'].set()").check()
    assert cell.check().stdout == "first\nlast\n"
    endless = notebook.start_cell("print('runs')\nwhile True: pass").wait_output("runs")
    notebook.interrupt()  # as before
    assert endless.wait().errors == ["KeyboardInterrupt: "]


@pytest.mark.parametrize(
    "code",
    [f"print('first')\n{code}" for code in ("time.sleep(3600)", "while True: pass", "await asyncio.sleep(3600)")],
    ids=["sleeps", "computes", "awaits"],
)
def test_cancel_stops_it(notebook: KernelDriver, subshell: str, code: str) -> None:
    cell = start(notebook, "", code)
    assert not adopt(notebook, "endless", subshell=subshell).refused
    assert notebook.run("print('between')").check().stdout == "between\n"
    notebook.run("%bgtask cancel endless").check()
    assert cell.wait().errors[0].partition(":")[0] in ("KeyboardInterrupt", "CancelledError")
    notebook.run("%bgtask wait endless --no-raise").check()
    assert state(notebook, "endless") == "cancelled"
    assert notebook.run("print('after')").check().stdout == "after\n"


def test_figures_are_shown_where_they_were_made(notebook: KernelDriver, subshell: str) -> None:
    notebook.run("import matplotlib.pyplot as plt").check()
    cell = start(notebook, "gate", "plt.plot([1, 2])\nprint('first')\ngates[{name!r}].wait()\nplt.title('mine')")
    assert not adopt(notebook, subshell=subshell).refused
    bare = notebook.run("print('no figure', plt.get_fignums())").check()
    assert bare.stdout == "no figure []\n" and not any(map(is_image, bare.outputs))
    other = notebook.run("plt.plot([3, 4]);").check()
    assert sum(map(is_image, other.outputs)) == 1
    notebook.run("gates['gate'].set()").check()
    cell.wait_output(lambda one: any(map(is_image, one.outputs)))
    cell.check()
    assert sum(map(is_image, cell.outputs)) == 1
    after = notebook.run("print(plt.get_fignums())").check()
    assert after.stdout == "[]\n" and not any(map(is_image, after.outputs))


def test_threads_that_it_has_started_write_into_it(notebook: KernelDriver, subshell: str) -> None:
    code = """
import sys
def work(name):
    sys.stdout.write(f'{name} began\\n')
    gates['thread'].wait()
    sys.stdout.write(f'{name} ended\\n')
thread = threading.Thread(target=work, args=('early',)); thread.start()
sys.stdout.write('first\\n')
gates['more'].wait()
late = threading.Thread(target=work, args=('late',)); late.start()
gates['thread'].wait()
thread.join(); late.join()
"""
    cell = notebook.start_cell(code).wait_output("first")
    assert not adopt(notebook, subshell=subshell).refused
    foreground = notebook.run("gates['more'].set()\nprint('foreground')").check()
    cell.wait_output("late began")
    notebook.run("gates['thread'].set()").check()
    cell.check()
    assert sorted(cell.stdout.splitlines()) == ["early began", "early ended", "first", "late began", "late ended"]
    assert foreground.stdout == "foreground\n" and not notebook.stray


def test_captures_of_the_two_do_not_mix(notebook: KernelDriver, subshell: str) -> None:
    code = (
        "print('first')\ngates['a'].wait()\nfrom IPython.utils.capture import capture_output\n"
        "with capture_output() as mine:\n    print('captured by it')\n    gates['b'].wait()\nprint(repr(mine.stdout))"
    )
    cell = notebook.start_cell(code).wait_output("first")
    assert not adopt(notebook, subshell=subshell).refused
    captures = "%%capture captured\nprint('captured in the foreground')\ngates['a'].set()\ntime.sleep(0.2)"
    assert notebook.run(captures).check().text == ""
    assert notebook.run("print('shown')").check().stdout == "shown\n"
    notebook.run("gates['b'].set()").check()
    assert cell.check().stdout == "first\n'captured by it\\n'\n"
    assert notebook.value("captured.stdout") == "captured in the foreground\n"


def test_the_next_cell_finds_the_task_and_its_name(notebook: KernelDriver) -> None:
    # The task is added when the next cell has begun, which it must not, or after a moment.
    late = "def add_late(task, add=manager.add_task):\n    gates['next'].wait(0.5)\n    return add(task)"
    notebook.run(f"manager = get_manager()\n{late}\nmanager.add_task = add_late").check()
    cell = notebook.start_cell("%bgtask adopt myself\ngates['self'].wait()")
    after = notebook.start_cell("gates['next'].set()\nstate = myself.state.value\ngates['self'].set()\nstate")
    assert after.check().text == "'running'\n"
    cell.check()


def test_a_cell_sends_itself_away(notebook: KernelDriver) -> None:
    cell = notebook.start_cell("print('here')\n%bgtask adopt myself\ngates['self'].wait()\nprint('there')\n'end'")
    cell.wait_output("here")
    assert notebook.run("myself.state.value").check().text == "'running'\n"
    notebook.run("gates['self'].set()").check()
    assert cell.check().stdout == "here\nthere\n" and [text for _, text in results(cell)] == ["'end'"]
    wait_over(notebook, "myself")
    assert notebook.value("myself.result") == "end"


def test_it_is_a_task_with_panel_table_and_output(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate", WAITS)
    assert not adopt(notebook, subshell=subshell).refused
    panels = [output for output in cell.outputs if output["output_type"] == "display_data"]
    assert len(panels) == 1 and "bg1" in panels[0]["data"]["text/plain"]
    assert "bg1" in notebook.run("%bgtask list").check().stdout
    notebook.run("gates['gate'].set()").check()
    cell.check()
    wait_over(notebook, "bg1")
    assert notebook.value("bg1.output.text") == "last\n'the value'\n"
    assert notebook.value("(bg1.source.splitlines()[0], bg1.progress, bg1.lane, bg1.backend)") == (
        "print('first')", 100.0, "adopted", "foreground",
    )  # fmt: skip
    again = notebook.run("%bgtask retry bg1").check()
    again.wait_output("last")
    assert state(notebook, "bg1") == "completed"


def test_names_are_shared_and_context_variables_stay(notebook: KernelDriver, subshell: str) -> None:
    notebook.run("import contextvars as c\nvariable = c.ContextVar('v')\nvariable.set('main')\nnumber = 1").check()
    cell = start(notebook, "gate", "number = 2\nprint('first')\ngates[{name!r}].wait()\nnumber += 1\nprint(number)")
    assert not adopt(notebook, subshell=subshell).refused
    assert notebook.run("print(number, variable.get('none'))\nnumber = 10\nvariable.set('away');").check().stdout in (
        "2 main\n",
        "2 none\n",  # ipykernel 7.0 runs each cell in another context
    )
    notebook.run("gates['gate'].set()").check()
    assert cell.check().stdout == "first\n11\n"
    assert notebook.value("number") == 11


def test_a_cell_that_awaits_is_sent_away_also_after_a_cell_in_a_subshell(
    notebook: KernelDriver, subshell: str
) -> None:
    cell = start(notebook, "", "print('first')\nopened = asyncio.Event()\nawait opened.wait()\nprint('last')\n'value'")
    beside = {"code": "1 + 1", "silent": False, "store_history": False, "user_expressions": {}}
    notebook.request("execute_request", beside, subshell=subshell)
    assert not adopt(notebook, subshell=subshell).refused
    notebook.run("main_loop.call_soon_threadsafe(opened.set)").check()
    assert cell.check().stdout == "first\nlast\n" and [text for _, text in results(cell)] == ["'value'"]


def test_two_cells_are_away_at_once(notebook: KernelDriver, subshell: str) -> None:
    one = start(notebook, "one")
    assert not adopt(notebook, "first_away", subshell=subshell).refused
    two = start(notebook, "two")
    assert not adopt(notebook, "second_away", subshell=subshell).refused
    assert notebook.run("print('foreground')").check().stdout == "foreground\n"
    notebook.run("gates['one'].set()").check()
    assert one.check().stdout == "first\nlast\n"
    assert notebook.run("print(threading.current_thread().name)").check().stdout == "MainThread\n"
    notebook.run("gates['two'].set()").check()
    assert two.check().stdout == "first\nlast\n" and [text for _, text in results(two)] == ["'the value'"]
    assert notebook.run("print(threading.current_thread().name)").check().stdout == "MainThread\n"


# -- refused -----------------------------------------------------------------------------------------------------------


def test_without_a_running_cell_there_is_nothing_to_send(notebook: KernelDriver, subshell: str) -> None:
    assert "no cell is running" in adopt(notebook, subshell=subshell).refused


def test_a_cell_that_redirects_its_output_stays(notebook: KernelDriver, subshell: str) -> None:
    notebook.run("ready = threading.Event()").check()
    cell = notebook.start_cell("%%capture captured\nready.set()\ngates['gate'].wait()\nprint('captured')")
    notebook.request(
        "execute_request",
        {"code": "ready.wait()", "silent": True, "store_history": False, "user_expressions": {}},
        subshell=subshell,
    )
    assert "redirected its output" in adopt(notebook, subshell=subshell).refused
    later = notebook.start_cell("captured.stdout")
    notebook.request(
        "execute_request",
        {"code": "gates['gate'].set()", "silent": True, "store_history": False, "user_expressions": {}},
        subshell=subshell,
    )
    cell.check()
    assert later.check().text == "'captured\\n'\n"


def test_a_cell_that_waits_for_input_stays(notebook: KernelDriver, subshell: str) -> None:
    cell = notebook.start_cell("print(input('name? '))")
    notebook.wait_until(lambda: notebook.input_requests)
    assert "user input" in adopt(notebook, subshell=subshell).refused
    notebook.answer_input("Ada")
    assert cell.check().stdout == "Ada\n"


def test_input_in_a_cell_that_is_away_is_an_error(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate", "print('first')\ngates[{name!r}].wait()\ninput('name? ')")
    assert not adopt(notebook, subshell=subshell).refused
    notebook.run("gates['gate'].set()").check()
    assert cell.wait().errors[0].startswith("NoInputError: input() was called in a background cell")
    answered = notebook.start_cell("print(input('again? '))")
    notebook.wait_until(lambda: notebook.input_requests)
    notebook.answer_input("yes")
    assert answered.check().stdout == "yes\n"


def test_a_name_that_the_cell_binds_is_refused(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate", "print('first')\ngates[{name!r}].wait()\nmine = 1")
    assert "the cell itself binds 'mine'" in adopt(notebook, "mine", subshell=subshell).refused
    assert "name" in adopt(notebook, "", subshell=subshell).refused
    assert not adopt(notebook, "other", subshell=subshell).refused
    notebook.run("gates['gate'].set()").check()
    cell.check()
    assert notebook.value("mine") == 1


def test_the_extension_cannot_be_unloaded_meanwhile(notebook: KernelDriver, subshell: str) -> None:
    cell = start(notebook, "gate")
    assert not adopt(notebook, "away", subshell=subshell).refused
    refused = notebook.run("%unload_ext nbtasks")
    assert "'away' was sent to the background and still runs" in refused.text
    notebook.run("gates['gate'].set()").check()
    cell.check()
    wait_over(notebook, "away")
    notebook.run("%unload_ext nbtasks").check()
    assert notebook.run("print('unloaded')").check().stdout == "unloaded\n"


def test_an_older_kernel_says_what_it_takes(kernel: KernelDriver) -> None:
    if kernel.supports_subshells:
        pytest.skip("this ipykernel sends running cells to the background")
    load(kernel)
    assert "ipykernel 7.0 or later" in kernel.run("%bgtask adopt").text


# -- at random moments -------------------------------------------------------------------------------------------------


def test_nothing_is_lost_doubled_or_out_of_order(notebook: KernelDriver) -> None:
    Rounds(notebook, seed=1).run(20)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_hundred_cells_at_random_moments(notebook: KernelDriver) -> None:
    Rounds(notebook, seed=2).run(200)
