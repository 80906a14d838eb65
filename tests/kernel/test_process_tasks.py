"""Cells in processes as tasks: output, progress, plots, timeouts, schedules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over
from tests.kernel.test_table import table_of

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]
PROCESS = "--backend process --quiet"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    """One for all: each test uses names of its own."""
    return load(module_kernel)


def test_output_comes_while_the_cell_runs_and_is_cleared(notebook: KernelDriver) -> None:
    cell = notebook.run(
        f"%%bgtask talks {PROCESS}\nimport sys, time\nfrom IPython.display import clear_output\nprint('out')\n"
        "print('err', file=sys.stderr)\nclear_output()\nprint('left', flush=True)\ntime.sleep(600)"
    ).check()
    cell.wait_output(lambda cell: cell.text == "left\n")
    assert notebook.value("talks.state.value") == "running"
    notebook.run("talks.cancel()").check()
    wait_over(notebook, "talks")
    assert notebook.value("talks.state.value") == "cancelled"


def test_bars_of_tqdm_and_the_body_are_reported_while_it_runs(notebook: KernelDriver) -> None:
    notebook.run(
        f"%%bgtask counts {PROCESS}\nimport time\nfrom tqdm import tqdm\nfor n in tqdm(range(4), mininterval=0):\n"
        "    current_task().body = f'step {n}'\n    if n == 2: time.sleep(600)"
    ).check()
    notebook.wait_until(lambda: notebook.value("(counts.progress, counts.body)") == (50.0, "step 2"), what="the bar")
    notebook.run("counts.cancel()").check()
    wait_over(notebook, "counts")


def test_a_timeout_ends_it(notebook: KernelDriver) -> None:
    notebook.run(f"%%bgtask slow {PROCESS} --timeout 1s\nimport time\ntime.sleep(600)").check()
    wait_over(notebook, "slow")
    assert notebook.value("(slow.state.value, type(slow.exception).__name__)") == ("failed", "TaskTimeoutError")


def test_a_retry_runs_it_in_a_fresh_process(notebook: KernelDriver, tmp_path: Path) -> None:
    notebook.run(f"from pathlib import Path\nfolder = Path({str(tmp_path)!r})").check()
    cell = notebook.run(
        f"%%bgtask flaky {PROCESS} --retries 2\nimport os\n(folder / str(os.getpid())).touch()\n"
        "count = len(list(folder.iterdir()))\nif count < 3: raise ValueError(f'attempt {count}')\nprint('well')"
    ).check()
    wait_over(notebook, "flaky")
    assert notebook.value("(flaky.state.value, flaky.attempts, count)") == ("completed", 3, 3)
    assert "attempt 1 of 3 failed: ValueError: attempt 1" in cell.text
    assert cell.text.endswith("well\n")


def test_a_schedule_takes_a_fresh_snapshot_each_time_and_commits(notebook: KernelDriver) -> None:
    notebook.run("import os\nsource, seen = 1, []").check()
    cell = notebook.run(
        "%%bgtask recurs --backend process --cron @yearly\nseen = [*seen, source]\nprint('seen', seen, os.getpid())"
    ).check()
    for number in (1, 2, 3):
        notebook.run(f"source = {number}").check()
        notebook.run("%bgtask run recurs\nget_manager().wait()").check()
        cell.wait_output(f"seen {list(range(1, number + 1))} ")
    assert notebook.value("seen") == [1, 2, 3]
    assert cell.text.count("seen") == 1
    assert str(notebook.value("os.getpid()")) not in cell.text
    notebook.run("%bgtask remove recurs").check()


def test_plots_show_in_their_cell_with_the_notebooks_settings(notebook: KernelDriver) -> None:
    notebook.run("import matplotlib.pyplot as plt\nplt.rcParams['figure.figsize'] = 2, 1").check()
    cell = notebook.run(
        f"%%bgtask plots {PROCESS}\nplt.plot([1, 2])\nplt.rcParams['lines.linewidth'] = 7\n"
        "width = float(plt.gcf().get_figwidth())"
    ).check()
    wait_over(notebook, "plots")
    assert [output["data"]["text/plain"] for output in cell.outputs if "image/png" in output["data"]] == [
        "<Figure size 200x100 with 1 Axes>"
    ]
    assert notebook.value("(width, plt.rcParams['lines.linewidth'], plt.get_fignums())") == (2.0, 7.0, [])


def test_colormaps_that_were_registered_in_the_notebook_are_there(notebook: KernelDriver) -> None:
    notebook.run(
        "import matplotlib.pyplot as plt\nfrom matplotlib.colors import ListedColormap\n"
        "plt.matplotlib.colormaps.register(ListedColormap(['red', 'blue'], name='own'))"
    ).check()
    notebook.run(f"%%bgtask colours {PROCESS} --wait\nplt.imshow([[1, 2]], cmap='own').cmap.N").check()
    assert notebook.value("colours.result") == 2


def test_the_table_lists_and_cancels_it(notebook: KernelDriver) -> None:
    notebook.run(f"%%bgtask listed {PROCESS}\nimport time\ntime.sleep(600)").check()
    notebook.wait_until(lambda: notebook.value("listed.state.value") == "running", what="its start")
    assert "listed" in table_of(notebook.run("%bgtask").check())["text/html"]
    notebook.run("%bgtask cancel listed").check()
    wait_over(notebook, "listed")
    assert notebook.value("listed.state.value") == "cancelled"


def test_an_object_that_a_function_of_the_notebook_changes_comes_back(notebook: KernelDriver) -> None:
    notebook.run("log = []\ndef note(word): log.append(word)").check()
    notebook.run(f"%%bgtask notes {PROCESS} --wait\nnote('a')\nnote('b')").check()
    assert notebook.value("log") == ["a", "b"]


def test_a_function_that_calls_eval_finds_any_name(notebook: KernelDriver) -> None:
    notebook.run(
        "hidden = 41\nclass Shows:\n    def __init__(self, text): self.text = text\n"
        "    def value(self): return eval(self.text)"
    ).check()
    notebook.run(f"%%bgtask evaluates {PROCESS} --wait\nanswer = Shows('hid' + 'den + 1').value()").check()
    assert notebook.value("answer") == 42


def test_objects_of_a_module_on_a_path_that_the_cell_added_come_back(
    notebook: KernelDriver, tmp_path: Path
) -> None:
    (tmp_path / "module_of_the_cell.py").write_text("class Thing:\n    size = 3\n")
    notebook.run(
        f"%%bgtask imports {PROCESS} --wait\nimport sys\nsys.path.append({str(tmp_path)!r})\n"
        "import module_of_the_cell\nthing = module_of_the_cell.Thing()"
    ).check()
    assert notebook.value("(thing.size, module_of_the_cell.Thing is type(thing))") == (3, True)
    assert notebook.value("sys.path[-1]") == str(tmp_path)


def test_an_object_that_can_be_pickled_but_not_unpickled_stays_behind(notebook: KernelDriver) -> None:
    cell = notebook.run(
        f"%%bgtask stays {PROCESS} --wait\nclass Asks:\n"
        "    def __getattr__(self, name): return getattr(self.inner, name)\n"
        "asks = Asks()\nasks.inner = 1\nfine = 2"
    ).check()
    assert cell.stderr == ""
    assert notebook.value("stays.names_in_process") == ("asks",)
    assert notebook.value("(stays.state.value, fine)") == ("completed", 2)


def test_a_widget_of_the_notebook_moves_from_a_process_and_stays_itself(notebook: KernelDriver) -> None:
    notebook.run(
        "import ipywidgets\nslides = ipywidgets.IntSlider()\nsame, seen = slides, []\n"
        "slides.observe(lambda change: seen.append(change.new), 'value')"
    ).check()
    notebook.run(f"%%bgtask moves {PROCESS} --wait\nslides.value = 7\nslides").check()
    assert notebook.find_models("IntSliderModel", value=7)
    assert notebook.value("(slides is same is moves.result, slides.value, seen)") == (True, 7, [7])
    notebook.run("slides.value = 8").check()
    assert notebook.value("seen") == [7, 8]


def test_a_button_made_in_a_process_is_clicked_in_the_notebook(notebook: KernelDriver) -> None:
    notebook.run(
        f"%%bgtask makes {PROCESS} --wait\nimport ipywidgets\npressed = []\n"
        "button = ipywidgets.Button(description='made there')\n"
        "button.on_click(lambda button: pressed.append(button.description))\nbutton"
    ).check()
    [model] = notebook.find_models("ButtonModel", description="made there")
    notebook.click(model)
    notebook.wait_until(lambda: notebook.value("pressed") == ["made there"], what="the click")
