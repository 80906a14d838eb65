"""`%%capture`, `shell.run_cell` and Output widgets in a background cell."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


def test_capture_in_a_task_captures_only_its_own_output(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\n%%capture held\nimport sys\nprint('out')\nprint('err', file=sys.stderr)\n"
        "display('shown')\n6*7"
    ).check()
    wait_over(notebook, "it")
    assert cell.outputs == []
    assert notebook.value("(held.stdout, held.stderr)") == ("out\n", "err\n")
    assert notebook.value("[o.data['text/plain'] for o in held.outputs]") == ["'shown'", "42"]


def test_neither_side_captures_the_others_output(notebook: KernelDriver) -> None:
    background = notebook.run(
        "%%bgtask it --quiet\nfrom IPython.utils.capture import capture_output\n"
        "print('before')\ngates['fg'].wait()\nprint('while the foreground captures'); display('d')\n"
        "with capture_output() as own:\n    gates['bg'].set(); print('own'); gates['end'].wait()\n"
        "print(own.stdout, end='')"
    ).check()
    foreground = notebook.run(
        "from IPython.utils.capture import capture_output\n"
        "with capture_output() as mine:\n    gates['fg'].set(); print('mine'); gates['bg'].wait(); display('m')\n"
        "print('free'); gates['end'].set()\nprint(repr(mine.stdout), len(mine.outputs))"
    ).check()
    wait_over(notebook, "it")
    assert foreground.stdout == "free\n'mine\\n' 1\n"
    assert background.stdout == "before\nwhile the foreground captures\nown\n"


def test_only_the_requested_kinds_of_output_are_captured(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\n%%capture --no-stdout part\nimport sys\nprint('passes')\nprint('stays', file=sys.stderr)"
    ).check()
    wait_over(notebook, "it")
    assert cell.stdout == "passes\n" and cell.stderr == ""
    assert notebook.value("part.stderr") == "stays\n"


def test_after_an_error_in_a_captured_cell_the_cell_continues_as_in_the_foreground(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --quiet\n%%capture\n1 / 0").check()
    wait_over(notebook, "it")
    assert cell.errors == ["ZeroDivisionError: division by zero"]
    assert notebook.value("it.state.value") == "completed"


def test_a_nested_cell_uses_the_names_of_the_task_and_no_execution_count(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --quiet\nget_ipython().run_cell('inner = 5\\ninner + 1')\nprint(inner)").check()
    wait_over(notebook, "it")
    following = notebook.run("1").check()
    number = cell.reply["execution_count"]
    assert [o.get("data", {}).get("text/plain") for o in cell.outputs] == ["6", None]
    assert following.outputs[0]["execution_count"] == number + 2  # the wait is one cell


def test_an_output_widget_captures_the_prints_in_its_context_in_order(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nimport ipywidgets\nout = ipywidgets.Output()\n"
        "print('1')\nwith out: print('2')\nprint('3')"
    ).check()
    other = notebook.run("print('foreground')").check()
    wait_over(notebook, "it")
    order = [
        a.content["data"]["state"].get("msg_id") if a.type == "comm_msg" else a.content["text"]
        for a in notebook.messages
        if a.parent_id == cell.msg_id and a.type in ("comm_msg", "stream")
    ]
    assert order == ["1\n", cell.msg_id, "2\n", "", "3\n"]
    assert other.stdout == "foreground\n"


def test_clear_output_in_a_loop_leaves_the_last_frame(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nfrom IPython.display import clear_output\n"
        "for n in range(20):\n    clear_output(wait=True)\n    print('frame', n)"
    ).check()
    wait_over(notebook, "it")
    assert cell.stdout == "frame 19\n"
