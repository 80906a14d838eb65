"""Cells in other installed kernels: another environment, and another language."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

# A kernel of a language that has but one verb: it prints what it is given in capitals, and fails at a question mark.
LOUD = """
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Loud(Kernel):
    implementation = "loud"
    implementation_version = "1"
    banner = "loud"
    language_info = {"name": "loud", "mimetype": "text/plain", "file_extension": ".txt"}

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False, **_):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code.upper()})
        if "?" in code:
            error = {"ename": "Question", "evalue": "no answer", "traceback": ["no answer"]}
            self.send_response(self.iopub_socket, "error", error)
            return {"status": "error", "execution_count": 1, **error}
        return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(kernel_class=Loud)
"""


def install(home: Path, name: str, argv: list[str], language: str) -> None:
    folder = home / "jupyter_data_dir" / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": language}
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    home = kernel.cwd
    (home / "loud.py").write_text(LOUD)
    launcher = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install(home, "other", launcher, "python")
    install(home, "bash", [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"], "bash")
    install(home, "loud", [sys.executable, str(home / "loud.py"), "-f", "{connection_file}"], "loud")
    return load(kernel)


def test_another_python_takes_the_names_it_can_and_gives_back_those_it_binds(notebook: KernelDriver) -> None:
    notebook.run("import threading\nnumber = 4\ndef times(n): return n * number\nlatch = threading.Lock()").check()
    cell = notebook.run(
        "%%bgtask it --kernel other --quiet --wait\nimport os\nprint('said')\nproduct = times(3)\n"
        "pid = os.getpid()\nimport os.path as paths\n'latch' in globals(), latch if 0 else 1"
    ).check()
    assert "said" in cell.text
    assert "latch cannot be sent to the kernel other" in cell.stderr
    assert cell.outputs[-1]["data"]["text/plain"] == "(False, 1)"
    assert notebook.value("(product, pid != os.getpid(), it.state.value)") == (12, True, "completed")
    assert notebook.value("(it.result, paths is __import__('os').path)") == ((False, 1), True)


def test_a_result_that_cannot_come_back_from_another_python_is_reported(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --kernel other --quiet --wait\nimport threading\nthreading.Lock()").check()
    assert "the result (lock) stayed behind" in cell.stderr
    assert notebook.value("(it.result, it.state.value)") == (None, "completed")


def test_another_language_shows_its_output_and_its_errors(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --kernel loud --quiet --wait\nhello, world").check()
    assert "HELLO, WORLD" in cell.stdout
    cell = notebook.run("%%bgtask it --kernel loud --quiet\nwhy?").check()
    wait_over(notebook, "it")
    assert notebook.value("(it.state.value, it.error)") == ("failed", "RemoteError: Question: no answer")
    assert "no answer" in cell.text


@pytest.mark.skipif(sys.platform == "win32", reason="it has no bash")
def test_a_cell_of_bash_shows_what_it_prints_and_how_it_ends(notebook: KernelDriver) -> None:
    cell = notebook.run('%%bgtask it --kernel bash --quiet --wait\nfor n in 1 2; do echo "line $n"; done').check()
    assert cell.stdout.split() == ["line", "1", "line", "2"]
    assert notebook.value("(it.state.value, it.result)") == ("completed", None)
    cell = notebook.run("%%bgtask it --kernel bash --quiet\necho so far\n(exit 3)").check()
    wait_over(notebook, "it")
    assert "so far" in cell.text
    assert notebook.value("(it.state.value, it.error)") == ("failed", "RemoteError: 3")


@pytest.mark.parametrize(
    ("kernel_name", "code"),
    [
        ("other", "print('begun')\nimport time; time.sleep(60)"),
        pytest.param(
            *("bash", "echo begun\nsleep 60"), marks=pytest.mark.skipif(sys.platform == "win32", reason="no bash")
        ),
    ],
)
def test_a_cancel_interrupts_another_kernel(notebook: KernelDriver, kernel_name: str, code: str) -> None:
    cell = notebook.run(f"%%bgtask it --kernel {kernel_name} --quiet\n{code}").check()
    cell.wait_output("begun")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"


def test_an_unknown_kernel_is_refused_with_those_there_are(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --kernel nowhere\n1")
    assert "there is no kernel 'nowhere'; there are bash, loud, other" in cell.text
    assert notebook.value("'it' in globals()") is False
