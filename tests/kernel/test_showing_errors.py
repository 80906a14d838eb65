"""Errors of background cells whose display fails: the task has failed anyway."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

pytestmark = pytest.mark.kernel

HANDLER = (
    "def handler(shell, kind, error, tb, tb_offset=None):\n    {}\n"
    "get_ipython().set_custom_exc((ZeroDivisionError,), handler)\n1 / 0"
)
CELLS = {
    "pdb": ("%pdb on\n1 / 0", "ZeroDivisionError: division by zero"),
    "a handler": (HANDLER.format("print('handled')"), "ZeroDivisionError: division by zero"),
    "a handler that raises": (HANDLER.format("raise RuntimeError('handler')"), "ZeroDivisionError: division by zero"),
    "a handler that exits": (HANDLER.format("raise SystemExit"), "ZeroDivisionError: division by zero"),
    "no text": (
        "class NoText(Exception):\n    def __str__(self): raise RuntimeError\nraise NoText",
        "NoText: <exception str() failed>",
    ),
    "a text that interrupts": (
        "class NoText(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise NoText",
        "NoText: <exception str() failed>",
    ),
    "a traceback that exits": (
        "class NoTraceback(Exception):\n    def _render_traceback_(self): raise SystemExit\nraise NoTraceback('text')",
        "NoTraceback: text",
    ),
    "no shell": (
        "def broken(*_, **__): raise RuntimeError\nget_ipython().showtraceback = broken\n1 / 0",
        "ZeroDivisionError: division by zero",
    ),
}
RESTORE = "%pdb off\nshell = get_ipython()\nshell.custom_exceptions = ()\nvars(shell).pop('showtraceback', None)"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


@pytest.mark.parametrize("backend", ["thread", "loop", "process"])
@pytest.mark.parametrize("code", CELLS)
def test_a_failure_is_recorded_whatever_happens_while_it_is_shown(
    notebook: KernelDriver, backend: str, code: str
) -> None:
    source, error = CELLS[code]
    notebook.run(f"%%bgtask failing --quiet --backend {backend}\n{source}").check()
    notebook.run("%%bgtask follower --quiet --after failing\n'followed'").check()
    notebook.run("get_manager().wait(failing, follower, timeout=60)").check()
    notebook.run(RESTORE).check()
    assert notebook.value("(failing.state.value, failing.error)") == ("failed", error)
    assert notebook.value("follower.state.value") == "cancelled"


def test_pdb_in_a_process_cell_shows_the_error_and_opens_no_debugger(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask failing --quiet --backend process\n%pdb on\n1 / 0").check()
    notebook.run("get_manager().wait(failing, timeout=60)").check()
    notebook.run("%pdb off").check()
    cell.wait_output("ZeroDivisionError")
    assert cell.errors == ["ZeroDivisionError: division by zero"] and "NoInputError" not in cell.text


@pytest.mark.parametrize("backend", ["thread", "process"])
def test_a_retry_follows_a_failure_whose_display_fails(notebook: KernelDriver, backend: str) -> None:
    source, _ = CELLS["a handler that exits"]
    notebook.run(f"%%bgtask flaky --quiet --retries 1 --backend {backend}\n{source}").check()
    notebook.run("get_manager().wait(flaky, timeout=60)").check()
    notebook.run(RESTORE).check()
    assert notebook.value("(flaky.state.value, flaky.attempts)") == ("failed", 2)
