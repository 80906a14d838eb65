"""Hooks that a background cell adds to the shell are its own until its commit."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

SETUP = """
import ast, sys
ip = get_ipython()
class Broken(ast.NodeTransformer):
    def visit(self, node):
        raise RuntimeError('this is not for the foreground')
class Double(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant(2 * node.value) if type(node.value) is int else node
def broken(*_): raise RuntimeError('this is not for the foreground')
def called(*_): print('called')
"""


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel).run(SETUP).check()
    return module_kernel


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        ("ip.ast_transformers.append(Broken())", "ip.ast_transformers.pop()"),
        ("ip.ast_transformers = [Broken()]", "ip.ast_transformers = []"),
        ("ip.input_transformers_post.append(broken)", "ip.input_transformers_post.remove(broken)"),
        ("ip.input_transformers_cleanup.append(broken)", "ip.input_transformers_cleanup.remove(broken)"),
        ("ip.input_transformer_manager.line_transforms.insert(0, broken)", ""),
        ("ip.events.register('pre_run_cell', called)", "ip.events.unregister('pre_run_cell', called)"),
        ("ip.events.register('post_execute', called)", "ip.events.unregister('post_execute', called)"),
    ],
)
def test_what_a_cell_adds_for_its_own_time_does_not_reach_the_foreground(
    notebook: KernelDriver, add: str, remove: str
) -> None:
    remove = remove or "ip.input_transformer_manager.line_transforms.remove(broken)"
    notebook.run(
        f"%%bgtask it --quiet\n{add}\ngates['added'].set(); gates['seen'].wait()\n{remove}\ngates.clear()"
    ).check()
    notebook.run("gates['added'].wait()").check()
    cell = notebook.run("print(20 + 1)").check()
    assert cell.text == "21\n"
    notebook.run("gates['seen'].set()").check()
    notebook.run("await it").check()
    assert notebook.run("print(20 + 1)").check().text == "21\n"


def test_a_transformer_works_in_its_cell(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nip.ast_transformers.append(Double())\nip.run_cell('print(4)')\nip.ast_transformers.pop()"
    ).check()
    wait_over(notebook, "it")
    assert cell.wait_output("8").stdout == "8\n"


def test_what_a_cell_leaves_is_the_notebooks_after_it(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\nip.ast_transformers.append(double := Double())\n"
        "ip.events.register('pre_run_cell', called)"
    ).check()
    notebook.run("await it").check()
    assert notebook.run("print(4)").check().stdout == "called\n8\n"
    notebook.run(
        "%%bgtask it --quiet\nip.ast_transformers.remove(double)\nip.events.unregister('pre_run_cell', called)"
    ).check()
    notebook.run("await it").check()
    assert notebook.run("print(4)").check().stdout == "4\n"


def test_who_lists_the_same_names_as_in_the_foreground(notebook: KernelDriver) -> None:
    notebook.run("%reset -f in\nmine = 1").check()
    foreground = notebook.run("%who").check()
    cell = notebook.run("%%bgtask other --quiet\n%who").check()
    wait_over(notebook, "other")
    assert "mine" in cell.wait_output("mine").stdout
    listed = [set(one.stdout.split()) for one in (cell, foreground)]
    assert listed[0] - {"other"} == listed[1] - {"other"}


def test_a_callback_of_a_module_is_the_notebooks_at_once(notebook: KernelDriver) -> None:
    """matplotlib registers one with the first plot; it shows foreground plots, too."""
    notebook.run(
        "%%bgtask it --quiet\nimport matplotlib.pyplot as plt\nplt.plot([1])\ngates['drawn'].set(); gates['end'].wait()"
    ).check()
    cell = notebook.run("gates['drawn'].wait()\nimport matplotlib.pyplot as plt\nplt.plot([2]);").check()
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)
    notebook.run("gates['end'].set()").check()
    wait_over(notebook, "it")


def test_a_cell_sees_the_callback_of_a_module_that_it_registers(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run(
        "%%bgtask it --quiet --wait\nimport json\nevents = get_ipython().events\nevents.callbacks\n"
        "events.register('post_execute', json.dumps)\nthere = json.dumps in events.callbacks['post_execute']\n"
        "events.unregister('post_execute', json.dumps)\ngone = json.dumps not in events.callbacks['post_execute']"
    ).check()
    assert kernel.value("[there, gone]") == [True, True]
