"""Panels of background cells while a foreground cell blocks the kernel."""

from __future__ import annotations

import json

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

VIEW = "application/vnd.jupyter.widget-view+json"
BUSY = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
# Says that it has begun, and computes until `notebook.interrupt()`.
BUSY_UNTIL_INTERRUPTED = "try:\n    print('busy')\n    while True: pass\nexcept KeyboardInterrupt: pass\n"


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def panel_of(cell: Cell) -> dict:
    [panel] = [o for o in cell.outputs if "nbtasks-panel" in o.get("data", {}).get("text/html", "")]
    return panel["data"]


def test_a_panel_is_a_widget_with_static_html_for_other_viewers(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\ngates['go'].wait()").check()
    data = panel_of(cell)
    assert VIEW in data and "it" in data["text/html"] and data["text/plain"].startswith("[")
    notebook.run("gates['go'].set()").check()


def test_quiet_shows_no_panel(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\n1").check()
    notebook.run("%bgtask wait it").check()
    assert not notebook.models


def test_the_panel_moves_while_the_foreground_computes(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it\nimport time\nfor n in track(range(1000)):\n"
        "    if gates['stop'].is_set(): break\n    time.sleep(0.02)"
    ).check()
    [bar] = notebook.find_models("FloatProgressModel")
    busy = notebook.start_cell(BUSY.format(seconds=3))
    busy.wait()
    values = {
        a.content["data"]["state"]["value"]
        for a in notebook.comm_messages
        if a.content["comm_id"] == bar and "value" in a.content["data"].get("state", {})
    }
    assert len(values) >= 8
    notebook.run("gates['stop'].set()").check()


def test_cancel_works_while_the_foreground_computes(notebook: KernelDriver) -> None:
    if not notebook.supports_subshells:
        pytest.skip("ipykernel 6 handles clicks between cells")
    cell = notebook.run("%%bgtask it\nwhile True: pass").check()
    [button] = notebook.find_models("ButtonModel", description="Cancel")
    busy = notebook.start_cell(BUSY_UNTIL_INTERRUPTED + "print(it.state.value)")
    busy.wait_output("busy")
    notebook.click(button)
    cell.wait_output("[cancelled]")
    assert not busy.done
    notebook.interrupt()
    assert busy.wait().stdout == "busy\ncancelled\n"


def test_comm_traffic_belongs_to_no_cell(notebook: KernelDriver) -> None:
    if not notebook.supports_subshells:
        pytest.skip("ipykernel 6 has one parent for all threads, and no subshells that it would matter to")
    notebook.run("%%bgtask it\nfor n in track(range(5)): print(n)").check()
    wait_over(notebook, "it")
    assert {a.parent_id for a in notebook.comm_messages} <= {None, ""}


@pytest.mark.parametrize(("body", "state"), [("1", "completed"), ("raise ValueError('boom')", "failed")])
def test_a_static_panel_replaces_the_widget_at_the_end(notebook: KernelDriver, body: str, state: str) -> None:
    cell = notebook.run(f"%%bgtask it\n{body}").check()
    wait_over(notebook, "it")
    cell.wait_output(f"[{state}] it")
    data = panel_of(cell)
    assert VIEW not in data and f'data-state="{state}"' in data["text/html"]
    if state == "failed":
        assert "ValueError: boom" in data["text/html"]


def test_text_of_the_user_is_escaped(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it\ncurrent_task().heading = '<b>x</b>'\ncurrent_task().body = '<script>y</script>'"
    ).check()
    wait_over(notebook, "it")
    cell.wait_output("[completed]")
    markup = panel_of(cell)["text/html"]
    assert "<script>" not in markup and "&lt;script&gt;y" in markup and "&lt;b&gt;x" in markup


def test_clear_output_leaves_the_panel(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it\nfrom IPython.display import clear_output\nprint('gone')\ngates['a'].wait()\n"
        "clear_output()\nprint('stays')\ngates['b'].wait()"
    ).check()
    cell.wait_output("gone")
    notebook.run("gates['a'].set()").check()
    cell.wait_output("stays")
    assert VIEW in panel_of(cell) and "gone" not in cell.text
    notebook.run("gates['b'].set()").check()
    cell.wait_output("[completed]")


def test_the_panel_comes_before_the_output(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\nprint('quick')").check()
    cell.wait_output("quick")
    assert "nbtasks-panel" in json.dumps(cell.outputs[0]) and cell.outputs[1]["text"] == "quick\n"


def test_a_rerun_closes_the_models_of_the_cells_earlier_panel(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\n1").check()
    wait_over(notebook, "it")
    cell.wait_output("[completed]")
    before = set(notebook.models)
    again = notebook.rerun(cell)
    again.wait_output("[completed]")
    notebook.wait_until(lambda: not before & set(notebook.models), what="the closing of the models")


def test_without_widgets_a_panel_is_html_and_text(start_kernel) -> None:
    notebook = load(start_kernel(NBTASKS_WIDGETS="0"))
    cell = notebook.run("%%bgtask it\n1").check()
    wait_over(notebook, "it")
    assert not notebook.models
    assert VIEW not in panel_of(cell)


def test_the_output_switch_shows_the_output_live(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it\nprint('first'); display('second')\ngates['a'].wait()\nprint('third')\ngates['b'].wait()"
    ).check()
    [switch] = notebook.find_models("ToggleButtonModel", description="Output")
    [view] = notebook.find_models("OutputModel")
    assert notebook.models[view]["outputs"] == []

    def shows(text: str) -> bool:
        return text in str(notebook.models[view]["outputs"])

    notebook.set_state(switch, value=True)
    notebook.wait_until(lambda: shows("first") and shows("second"), what="what was written before")
    notebook.run("gates['a'].set()").check()
    notebook.wait_until(lambda: shows("third"), what="what was written after")
    notebook.run("gates['b'].set()").check()


def test_the_panel_shows_the_tail_of_a_flood_while_it_lasts(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it\nfor n in range(3000): print('\\x1b[31mline', n)\ngates['a'].wait()\nprint('last line')"
    ).check()
    notebook.wait_until(
        lambda: [m for m in notebook.find_models("HTMLModel") if "line 2999" in notebook.models[m]["value"]],
        what="the tail in the panel",
    )
    assert "\x1b" not in str(notebook.models)
    assert "line 999\n" in cell.stdout and "line 1000\n" not in cell.stdout
    notebook.run("gates['a'].set()").check()
    cell.wait_output("last line")
    assert "[... 1,901 lines left out; task.output has them ...]" in cell.stdout
    assert notebook.value("len(it.output.text.splitlines())") == 3001


def test_the_name_alone_shows_the_panel_and_the_output(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\nprint('what it wrote')").check()
    wait_over(notebook, "it")
    cell = notebook.run("it").check()
    cell.wait_output("what it wrote").wait_output("[completed] it")


def test_a_function_task_is_shown_by_its_name_too(notebook: KernelDriver) -> None:
    notebook.run("plain = get_manager().create_task('plain', lambda task: task.name)\nplain.wait()").check()
    notebook.run("plain").check().wait_output("[completed] plain")


def test_a_failed_function_task_shows_the_command_that_runs_it_again(notebook: KernelDriver) -> None:
    notebook.run("def work():\n    gates['go'].wait(60)\n    return 1 / (0 if fails else 1)\nfails = True").check()
    cell = notebook.run("plain = get_manager().create_task('plain', work)\nplain").check()
    notebook.run("gates['go'].set()").check()
    cell.wait_output("[failed] plain")
    assert "%bgtask retry plain" in panel_of(cell)["text/html"]
    again = notebook.run("fails = False\n%bgtask retry plain").check()
    again.wait_output("[completed] plain")
    assert "%bgtask retry" not in panel_of(again)["text/html"]


def test_a_handle_keeps_its_data_after_its_task_was_pruned_until_it_is_released(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\nprint('kept')\nx = 1\nx").check()
    wait_over(notebook, "it")
    notebook.run("get_manager().prune()").check()
    assert notebook.value("(it.output.text, it.namespace, it.result)") == ("kept\n1\n", {"x": 1}, 1)
    notebook.run("it.release()").check()
    assert notebook.value("(it.output.text, it.namespace, it.result)") == ("", {}, None)


LOOP = """
for number in range(3):
    get_ipython().run_cell_magic("bgtask", f"part{number}", "gates['go'].wait()")
"""


def test_cells_started_in_a_loop_share_one_panel_which_becomes_static(notebook: KernelDriver) -> None:
    cell = notebook.run(LOOP).check()
    assert VIEW in panel_of(cell)
    heading = "3 tasks: part0, part1, part2"
    notebook.wait_until(
        lambda: any(heading in notebook.models[m]["value"] for m in notebook.find_models("HTMLModel")),
        what="the heading of all three",
    )
    assert len([o for o in cell.outputs if "data" in o]) == 1
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "part0", "part1", "part2")
    cell.wait_output("3 completed")
    assert VIEW not in panel_of(cell)


def test_a_task_of_a_shared_panel_is_cancelled_in_its_row(notebook: KernelDriver) -> None:
    cell = notebook.run(LOOP).check()
    notebook.wait_until(lambda: notebook.find_models("ButtonModel", tooltip="Cancel part1"), what="the row")
    [button] = notebook.find_models("ButtonModel", tooltip="Cancel part1")
    notebook.click(button)
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "part0", "part1", "part2")
    assert notebook.value("[t.state.value for t in (part0, part1, part2)]") == ["completed", "cancelled", "completed"]
    cell.wait_output("2 completed, 1 cancelled")
