"""The history in a notebook: what a kernel leaves to the next one of the same notebook."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

pytestmark = pytest.mark.kernel

NOTEBOOK = "/home/somebody/prices.ipynb"


@pytest.fixture
def start(start_kernel):
    """Starts kernels of the same notebook, one after the other or at once."""
    return lambda **env: load(start_kernel(JPY_SESSION_NAME=NOTEBOOK, **env))


def wait_written(notebook: KernelDriver) -> None:
    notebook.run("get_manager().history.flush()").check()


def test_the_file_is_in_jupyters_data_folder(start, tmp_path) -> None:
    notebook = start()
    assert notebook.value("str(get_manager().history.path)").startswith(str(tmp_path / "jupyter_data_dir"))
    assert notebook.value("get_manager().history.notebook") == NOTEBOOK


def test_it_can_be_elsewhere_or_off(start, tmp_path) -> None:
    elsewhere = start(NBTASKS_HISTORY=str(tmp_path / "my.sqlite"))
    assert elsewhere.value("str(get_manager().history.path)") == str(tmp_path / "my.sqlite")
    off = start(NBTASKS_HISTORY="off")
    assert off.value("get_manager().history") == "None" or off.value("get_manager().history") is None
    cell = off.run("%bgtask history")
    assert "no history is kept" in cell.stderr


def test_after_a_kernel_was_killed_its_tasks_are_lost_with_their_output(start) -> None:
    first = start()
    first.run("%%bgtask fine\nprint('all of it')").check()
    first.run("fine.wait()").check()
    cell = first.run("%%bgtask it\nprint('as far as it came')\ngates['go'].wait()").check()
    cell.wait_output("as far as it came")
    wait_written(first)
    first.kill()
    second = start()
    table = second.run("%bgtask history").check().outputs[0]["data"]
    assert "nbtasks-history" in table["text/html"] and "it    lost" in table["text/plain"]
    records = "[(r.name, str(r.state), r.tail, r.source) for r in get_manager().history.tasks()]"
    assert second.value(records) == [
        ("fine", "completed", "all of it\n", "print('all of it')\n"),
        ("it", "lost", "as far as it came\n", "print('as far as it came')\ngates['go'].wait()\n"),
    ]


def test_the_history_tells_what_is_asked_for(start) -> None:
    notebook = start()
    notebook.run("%%bgtask broken\nraise ValueError('no data')").check()
    notebook.run("%%bgtask fine\n1").check()
    notebook.run("get_manager().wait()").check()

    def told(options: str) -> str:
        return notebook.run(f"%bgtask history {options}").check().text

    assert "ValueError: no data" in told("--failed") and "fine" not in told("--failed")
    assert "fine" in told("--since 2d") and "nothing is recorded" in told("--since 1ms")
    assert "fine" in told("--notebook prices.ipynb") and "nothing is recorded" in told("--notebook other.ipynb")
    assert "broken" not in told("fine") and "broken" in told("--notebook all")
    for wrong, says in {"--fast": "unrecognized arguments: --fast", "--since yesterday": "no interval"}.items():
        cell = notebook.run(f"%bgtask history {wrong}")
        assert says in cell.stderr and cell.stderr.count("\n") == 1


def test_schedules_of_a_killed_kernel_are_offered_and_restored_in_one_kernel_only(start) -> None:
    first = start()
    first.run("n = 0").check()
    first.run("%%bgtask prices --every 1h --max-concurrent 2 --timeout 5m --retries 2\nn += 1\nprint('run', n)").check()
    first.run("%bgtask run prices\nget_manager().wait()").check()
    wait_written(first)
    first.kill()
    second, third = start(), start()
    said = second.run("%bgtask schedules").check().stdout
    assert "1 schedule of an earlier kernel of this notebook: prices; to take up again: %bgtask restore" in said
    cell = second.run("%bgtask restore").check()
    assert cell.stdout.startswith("prices is restored: it fires next in ")
    assert third.run("%bgtask restore").check().stdout == "there is nothing to restore\n"
    facts = "(prices.total_runs, prices.enabled, str(prices.schedule), prices.max_concurrent, prices.template.timeout)"
    assert second.value(facts) == (1, True, "1h", 2, 300.0)
    second.run("n = 10").check()
    second.run("%bgtask run prices\nget_manager().wait()").check()
    assert second.value("(n, prices.template.runs.kept[-1].output.text)") == (11, "run 11\n")


def test_a_schedule_that_was_removed_or_is_here_again_is_not_offered(start) -> None:
    first = start()
    first.run("%%bgtask gone --every 1h\n1").check()
    first.run("%%bgtask back --every 1h\n1").check()
    first.run("%bgtask remove gone").check()
    wait_written(first)
    first.kill()
    second = start()
    assert second.run("%bgtask schedules").check().stdout.count("back") == 1
    second.run("%%bgtask back --every 2h\n1").check()
    assert "earlier kernel" not in second.run("%bgtask schedules").check().stdout


def test_schedules_of_another_notebook_are_not_offered(start, start_kernel) -> None:
    first = start()
    first.run("%%bgtask it --every 1h\n1").check()
    wait_written(first)
    first.kill()
    other = load(start_kernel(JPY_SESSION_NAME="/home/somebody/other.ipynb"))
    assert other.run("%bgtask schedules").check().stdout == "no schedules\n"


def test_what_cannot_be_restored_says_why(start) -> None:
    first = start()
    first.run("get_manager().add_recurring_task('1h', lambda: None, name='it')").check()
    wait_written(first)
    first.kill()
    second = start()
    assert "it cannot be restored: '<lambda>' cannot be imported" in second.run("%bgtask restore").check().stdout
