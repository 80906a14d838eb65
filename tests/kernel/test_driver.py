"""The kernel driver, with plain kernels: it merges output as JupyterLab does."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.kernel.cell import OutputArea, as_on_a_terminal
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver, KernelEndedError, TimeLimitError


def test_a_cell_has_its_streams_result_and_number(module_kernel):
    cell = module_kernel.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('more')\n6 * 7")
    assert cell.ok
    assert cell.stdout == "out\nmore\n"
    assert cell.stderr == "err\n"
    result = cell.outputs[-1]
    assert result["output_type"] == "execute_result"
    assert result["data"]["text/plain"] == "42"
    assert result["execution_count"] == cell.reply["execution_count"]
    assert "42" in cell.text


def test_a_failing_cell_has_its_error(module_kernel):
    cell = module_kernel.run("1 / 0")
    assert not cell.ok
    assert cell.errors == ["ZeroDivisionError: division by zero"]
    assert "1 / 0" in cell.text
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        cell.check()


def test_consecutive_streams_are_one_output(module_kernel):
    cell = module_kernel.run("for i in range(3): print(i, flush=True)")
    assert [(o["output_type"], o["text"]) for o in cell.outputs] == [("stream", "0\n1\n2\n")]


def test_output_after_the_cell_went_idle_is_filed_under_it(module_kernel):
    launching = module_kernel.run(
        "import asyncio\nasync def later():\n    await go.wait()\n    print('late')\n"
        "go = asyncio.Event(); late = asyncio.create_task(later())"
    )
    assert launching.stdout == ""
    module_kernel.run("go.set()\nprint('other')")
    assert launching.wait_output("late").stdout == "late\n"


def test_a_display_update_reaches_the_cell_that_shows_it(module_kernel):
    shown = module_kernel.run("from IPython.display import display\nh = display('first', display_id=True)")
    other = module_kernel.run("h.update('second')")
    assert shown.wait_output("second").text == "'second'\n"
    assert other.outputs == []


def test_clear_output_with_wait_clears_when_the_next_output_comes(module_kernel):
    cell = module_kernel.run("from IPython.display import clear_output\nprint('a'); clear_output(wait=True)")
    assert cell.stdout == "a\n"
    cell = module_kernel.run("print('a'); clear_output(wait=True); print('b'); clear_output(wait=True); print('c')")
    assert cell.stdout == "c\n"


def test_carriage_returns_overwrite_the_line():
    assert as_on_a_terminal("10%\r20%\r30%\ndone\r\n") == "30%\ndone\n"
    assert as_on_a_terminal("abcdef\rxy") == "xycdef"
    assert as_on_a_terminal("ab\bc") == "ac"


def test_an_update_of_a_cleared_display_shows_nowhere():
    area = OutputArea()
    shown = {"data": {"text/plain": "1"}, "metadata": {}, "transient": {"display_id": "d"}}
    area.add("display_data", shown)
    area.add("clear_output", {"wait": False})
    area.update("d", shown)
    assert area.as_notebook() == []


def test_output_under_no_cell_is_stray(kernel):
    kernel.run(
        "k = get_ipython().kernel\n"
        "k.session.send(k.iopub_socket, 'stream', {'name': 'stdout', 'text': 'lost'}, parent={})"
    )
    kernel.wait_until(lambda: kernel.stray)
    assert [arrival.content["text"] for arrival in kernel.stray] == ["lost"]


def test_output_of_a_replaced_run_is_dropped(kernel):
    first = kernel.run(
        "import asyncio\ngo = asyncio.Event()\nasync def later():\n    await go.wait()\n    print('late')\n"
        "late = asyncio.create_task(later())"
    )
    second = kernel.rerun(first, "go.set()")
    kernel.wait_until(lambda: kernel.dropped)
    assert first.outputs == second.outputs == []
    assert first.cell_id == second.cell_id


def test_a_wait_ends_as_soon_as_the_output_arrives(kernel):
    cell = kernel.start_cell("print('ready')\ninput('name? ')")
    cell.wait_output("ready")
    assert not cell.done
    kernel.wait_until(lambda: kernel.input_requests)
    kernel.answer_input("Ada")
    assert "Ada" in cell.wait().text


def test_an_interrupt_ends_the_cell(kernel):
    cell = kernel.start_cell("import time\nprint('in')\ntime.sleep(600)")
    cell.wait_output("in")
    kernel.interrupt()
    assert cell.wait().errors == ["KeyboardInterrupt: "]


def test_a_value_is_read_without_running_a_cell(kernel):
    cell = kernel.run("x = {'a': [1, 2.5, None]}\nran = []\nget_ipython().events.register('pre_run_cell', ran.append)")
    assert cell.ok
    assert kernel.value("x") == {"a": [1, 2.5, None]}
    assert kernel.value("object") == "<class 'object'>"
    assert kernel.value("len(ran)") == 0
    with pytest.raises(AssertionError, match="NameError"):
        kernel.value("unknown_name")


def test_completions_are_those_of_tab(module_kernel):
    module_kernel.run("a_rather_long_name = 1")
    assert module_kernel.complete("a_rather_l") == ["a_rather_long_name"]


def test_a_wait_fails_after_its_timeout(module_kernel):
    with pytest.raises(TimeLimitError, match=r"0\.1 s passed without rain"):
        module_kernel.wait_until(lambda: False, timeout=0.1, what="rain")


def test_a_kernel_that_finds_a_port_taken_is_started_again(tmp_path):
    driver = KernelDriver(kernel_env(tmp_path), tmp_path)
    unlucky = driver._connection
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        unlucky._manager.cache_ports = False  # it would choose other ports
        unlucky._manager.control_port = taken.getsockname()[1]
        with driver:
            assert driver.value("6 * 7") == 42
            assert driver._connection is not unlucky and not unlucky.alive


def test_a_wait_fails_when_the_kernel_died(kernel):
    cell = kernel.start_cell("import os\nos._exit(3)")
    with pytest.raises(KernelEndedError):
        cell.wait()
    assert not kernel.alive


def test_a_killed_kernel_is_gone(kernel):
    kernel.kill()
    assert not kernel.alive


WIDGETS = """
import ipywidgets
from IPython.display import display
bar, button, clicks = ipywidgets.FloatProgress(value=10), ipywidgets.Button(description="Go"), []
def on_click(_):
    clicks.append(1)
    bar.value = 70
button.on_click(on_click)
display(bar, button)
"""


def test_widgets_are_followed_and_clicked(kernel):
    cell = kernel.run(WIDGETS).check()
    (bar,) = kernel.find_models("FloatProgressModel", value=10.0)
    (button,) = kernel.find_models("ButtonModel", description="Go")
    views = [o["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] for o in cell.outputs]
    assert views == [bar, button]
    kernel.click(button)
    kernel.wait_until(lambda: kernel.models[bar]["value"] == 70.0)
    kernel.set_state(bar, value=5.0)
    kernel.run("bar.close()").check()
    kernel.wait_until(lambda: bar not in kernel.models)
    closed = [a.content["comm_id"] for a in kernel.comm_messages if a.type == "comm_close"]
    assert closed == [bar]


def test_a_subshell_answers_while_a_cell_blocks(kernel):
    if not kernel.supports_subshells:
        pytest.skip("ipykernel 6 has no subshells")
    cell = kernel.start_cell("import threading\ngate = threading.Event()\nprint('in')\ngate.wait(60)")
    cell.wait_output("in")
    content = {"code": "gate.set()", "silent": True, "store_history": False}
    kernel.request("execute_request", content, subshell=kernel.create_subshell())
    assert cell.wait().ok


def test_several_threads_may_run_cells(kernel):
    cells = []
    threads = [threading.Thread(target=lambda i=i: cells.append(kernel.run(f"print({i})"))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(cell.stdout for cell in cells) == sorted(f"{i}\n" for i in range(8))
