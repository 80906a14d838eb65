"""The history in a notebook: lost tasks, `%bgtask history`, restored schedules."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.history.history import History
from tests.examples import rarely
from tests.history import test_history as spoiled
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load
from tests.kernel.test_panel import VIEW

pytestmark = pytest.mark.kernel

NOTEBOOK = "/home/user/prices.ipynb"
SHORT = "long_name = 'short'"


@pytest.fixture
def start(start_kernel):
    """Start kernels of the same notebook, one after the other or at once."""
    return lambda **env: load(start_kernel(JPY_SESSION_NAME=NOTEBOOK, **env))


def wait_written(notebook: KernelDriver) -> None:
    notebook.run("get_manager().history.flush()").check()


def test_the_file_is_in_jupyters_data_folder(start, tmp_path) -> None:
    notebook = start()
    assert notebook.value("str(get_manager().history.path)").startswith(str(tmp_path / "jupyter_data_dir"))
    assert notebook.value("get_manager().history.notebook") == NOTEBOOK


def test_it_can_be_in_another_file_or_off(start, tmp_path) -> None:
    elsewhere = start(NBTASKS_HISTORY=str(tmp_path / "my.sqlite"))
    assert elsewhere.value("str(get_manager().history.path)") == str(tmp_path / "my.sqlite")
    off = start(NBTASKS_HISTORY="off")
    assert off.value("get_manager().history") == "None" or off.value("get_manager().history") is None
    cell = off.run("%bgtask history")
    assert "no history is kept" in cell.stderr


def test_tasks_of_a_killed_kernel_are_lost_and_keep_their_output(start) -> None:
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


def test_the_history_is_a_widget_with_a_static_list_for_other_viewers(start) -> None:
    notebook = start()
    notebook.run("%%bgtask broken\nprint('so far')\nraise ValueError('no data')").check()
    notebook.run("get_manager().wait()").check()
    data = notebook.run("%bgtask history").check().outputs[0]["data"]
    assert VIEW in data and "<summary" in data["text/html"] and "so far" in data["text/html"]
    assert data["text/plain"].splitlines()[1].endswith("ValueError: no data")
    data = notebook.run("%bgtask history --statistics").check().outputs[0]["data"]
    assert VIEW not in data and "1 run, 1 failure" in data["text/html"]
    static = start(NBTASKS_WIDGETS="0").run("%bgtask history").check().outputs[0]["data"]
    assert VIEW not in static and "<summary" in static["text/html"]


def test_the_history_as_a_frame(start) -> None:
    notebook = start()
    notebook.run("%%bgtask fine\nprint('so far')").check()
    notebook.run("get_manager().wait()").check()
    assert notebook.value("get_manager().history.to_frame()[['name', 'output']].values.tolist()") == [
        ["fine", "so far\n"]
    ]


def test_the_history_is_filtered_by_options(start) -> None:
    notebook = start()
    notebook.run("%%bgtask broken\nraise ValueError('no data')").check()
    notebook.run("%%bgtask fine\n1").check()
    notebook.run("get_manager().wait()").check()

    def shown(options: str) -> str:
        return notebook.run(f"%bgtask history {options}").check().text

    assert "ValueError: no data" in shown("--failed") and "fine" not in shown("--failed")
    assert "fine" in shown("--since 2d") and "nothing is recorded" in shown("--since 1ms")
    assert "fine" in shown("--notebook prices.ipynb") and "nothing is recorded" in shown("--notebook other.ipynb")
    assert "broken" not in shown("fine") and "broken" in shown("--notebook all") and NOTEBOOK in shown("--notebook all")
    statistics = [line.split() for line in shown("--statistics").splitlines()]
    assert [line[:3] for line in statistics[1:]] == [["broken", "1", "1"], ["fine", "1", "0"]]
    faults = {"--fast": "unrecognized arguments: --fast", "--since yesterday": "not an interval"}
    for wrong, says in {**faults, "--failed --statistics": "not both"}.items():
        cell = notebook.run(f"%bgtask history {wrong}")
        assert says in cell.stderr and cell.stderr.count("\n") == 1


def test_schedules_of_a_killed_kernel_are_offered_and_restored_in_one_kernel_only(start) -> None:
    first = start()
    first.run("n = 0").check()
    first.run("%%bgtask prices --every 1h --max-concurrent 2 --timeout 5m --retries 2\nn += 1\nprint('run', n)").check()
    first.run("get_manager().wait()").check()
    wait_written(first)
    first.kill()
    second, third = start(), start()
    stdout = second.run("%bgtask schedules").check().stdout
    assert "1 schedule of an earlier kernel of this notebook: prices; to restore: %bgtask restore" in stdout
    assert second.complete("%bgtask restore pr") == ["prices"]
    cell = second.run("%bgtask restore").check()
    assert cell.stdout.startswith("prices is restored; next run in ")
    assert "prices" not in second.complete("%bgtask restore pr")
    assert third.run("%bgtask restore").check().stdout == "nothing to restore\n"
    facts = "(prices.total_runs, prices.enabled, str(prices.schedule), prices.max_concurrent, prices.template.timeout)"
    assert second.value(facts) == (1, True, "1h", 2, 300.0)
    second.run("n = 10").check()
    second.run("%bgtask run prices\nget_manager().wait()").check()
    assert second.value("(n, prices.template.runs.kept[-1].output.text)") == (11, "run 11\n")


def test_schedules_of_a_kernel_that_was_shut_down_are_offered_too(start) -> None:
    first = start()
    first.run("%%bgtask prices --every 1h\n1").check()
    first.shutdown()
    second = start()
    assert second.run("%bgtask restore prices").check().stdout.startswith("prices is restored; next run in ")
    assert second.value("[one.name for one in get_manager().list_recurring_tasks()]") == ["prices"]


def test_a_schedule_that_was_removed_or_exists_again_is_not_offered(start) -> None:
    first = start()
    first.run("%%bgtask gone --every 1h\n1").check()
    first.run("%%bgtask back --every 1h\n1").check()
    first.run("%bgtask remove gone").check()
    wait_written(first)
    first.kill()
    second = start()
    assert second.run("%bgtask schedules").check().text.count("back") == 1
    second.run("%%bgtask back --every 2h\n1").check()
    assert "earlier kernel" not in second.run("%bgtask schedules").check().text


def test_schedules_of_another_notebook_are_not_offered(start, start_kernel) -> None:
    first = start()
    first.run("%%bgtask it --every 1h\n1").check()
    wait_written(first)
    first.kill()
    other = load(start_kernel(JPY_SESSION_NAME="/home/user/other.ipynb"))
    assert other.run("%bgtask schedules").check().text == "no schedules\n"


def test_a_schedule_whose_class_has_changed_is_not_restored_and_stays_on_offer(start, tmp_path) -> None:
    module = tmp_path / "my_work.py"
    module.write_text(
        "import dataclasses, nbtasks\n\n\n@dataclasses.dataclass(kw_only=True)\nclass Fetch(nbtasks.Task):\n"
        "    pages: int\n    def run(self): return self.pages\n"
    )
    first = start()
    first.run("import my_work\nget_manager().add_recurring_task('1h', my_work.Fetch(name='it', pages=3))").check()
    wait_written(first)
    first.kill()
    module.write_text(module.read_text().replace("pages", "all_sites"))  # longer: Python looks at second and size
    second = start()
    stdout = second.run("%bgtask restore").check().stdout
    assert stdout.startswith("it cannot be restored: my_work.Fetch cannot be created: TypeError: ")
    module.write_text(module.read_text().replace("all_sites", "pages"))
    third = start()
    assert third.run("%bgtask restore").check().stdout.startswith("it is restored")
    assert third.value("get_manager().list_recurring_tasks()[0].run_now().wait()") == 3


def test_a_schedule_that_cannot_be_restored_says_why(start) -> None:
    first = start()
    first.run("get_manager().add_recurring_task('1h', lambda: None, name='it')").check()
    wait_written(first)
    first.kill()
    second = start()
    assert "it cannot be restored: '<lambda>' cannot be imported" in second.run("%bgtask restore").check().stdout


# -- kernels that are killed ------------------------------------------------------------------------------------

LIVELY = """
import os, time
log = os.open(r"{log}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def tell(task, event):
    if task.id in schedules: return
    os.write(log, f"{{time.time()}} {{task.id}} {{event.value}}\\n".encode())

manager = get_manager()
schedules = {{one.id for one in manager.list_recurring_tasks()}}
manager.add_lane("wide", 50)
manager.add_event_callback(tell, events=["created", "started", "completed"])
WRITES = r'''
for step in range(100_000):
    print('step', step)
    os.write(log, f"{{time.time()}} {{current_task().id}} {{step}}\\n".encode())
    time.sleep(0.1)
'''
for number in range(50):
    get_ipython().run_cell_magic("bgtask", f"w{{number}} --quiet --lane wide", WRITES)
"""


def check_a_killed_kernel(start, tmp_path, seconds: float) -> None:
    """Nothing older than a second is missing, and running tasks are lost with the output that they had."""
    log, path = tmp_path / "log", tmp_path / "history.sqlite"
    kernel = start(NBTASKS_HISTORY=str(path))
    for number in range(5):
        kernel.run(f"%%bgtask s{number} --quiet --every {100 + 30 * number}ms\nprint('run')").check()
    kernel.run(LIVELY.format(log=log)).check()
    time.sleep(seconds)  # the moment itself is what is tested
    kernel.kill()
    killed_at = time.time()
    logged: dict[str, str] = {}
    for line in log.read_text().splitlines():
        at, task_id, what = line.split()
        if float(at) < killed_at - 1.0:
            logged[task_id] = what
    history = History(path)
    try:
        records = {record.id: record for record in history.tasks()}
        offered = [(one.name, one.offered) for one in history.schedules()]
    finally:
        history.close()
    assert len(logged) >= 50 and not logged.keys() - records.keys()
    lost = [record for record in records.values() if record.state == "lost" and record.name.startswith("w")]
    assert len(lost) == 50 and {str(record.state) for record in records.values()} <= {"completed", "lost"}
    for task_id, what in logged.items():
        record = records[task_id]
        if what == "completed":
            assert record.state == "completed" and record.tail == "run\n"
        elif what.isdecimal():
            written = [line for line in (record.tail or "").splitlines() if line.startswith("step ")]
            assert written and int(written[-1].split()[1]) >= int(what)
    assert offered == [(f"s{number}", True) for number in range(5)]


def test_a_killed_kernel_loses_no_more_than_the_last_second(start, tmp_path) -> None:
    check_a_killed_kernel(start, tmp_path, 2.0)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(20))
def test_a_killed_kernel_loses_no_more_than_the_last_second_at_any_moment(start, tmp_path, number: int) -> None:
    check_a_killed_kernel(start, tmp_path, random.Random(number).uniform(1.2, 4.0))


@contextlib.contextmanager
def garbage(path: Path) -> Iterator[str]:
    path.write_bytes(b"no database" * 500)
    yield SHORT


@contextlib.contextmanager
def folder(path: Path) -> Iterator[str]:
    path.mkdir()
    yield SHORT


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[str]:
    spoiled.read_only(path)
    yield SHORT


@contextlib.contextmanager
def locked(path: Path) -> Iterator[str]:
    """Another process holds the write lock."""
    History(path).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        yield SHORT


@contextlib.contextmanager
def full(path: Path) -> Iterator[str]:
    """Writing to files of the kernel beyond 400 kB fails as on a full disk."""
    yield "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\nlong_name = 'n' * 2_000"


@pytest.mark.parametrize("spoil", [garbage, folder, read_only, *rarely(locked, full)])
def test_a_history_that_cannot_be_used_costs_one_warning_and_no_task(start, tmp_path, spoil) -> None:
    path = tmp_path / "my.sqlite"
    with spoil(path) as first_cell:
        notebook = start(NBTASKS_HISTORY=str(path))
        notebook.run(first_cell).check()
        for n in range(2):
            cell = notebook.run(f"%%bgtask it{n}\nprint('ran', {n})").check()
            cell.wait_output(f"ran {n}")
            notebook.run("%bgtask wait").check()
            notebook.run("for _ in range(200): get_manager().create_task(long_name, print)").check()
            notebook.run("get_manager().wait(); get_manager().history.flush()").check()
        texts = [cell.text for cell in notebook.cells.values()]
        assert "".join(texts).count("cannot be written; tasks run without it") == 1
        assert not notebook.run("%bgtask schedules").check().errors


def test_a_history_that_cannot_be_read_says_so_in_one_line(start, tmp_path) -> None:
    path = tmp_path / "my.sqlite"
    path.write_bytes(b"no database" * 500)
    lines = start(NBTASKS_HISTORY=str(path)).run("%bgtask history").stderr.splitlines()
    [shown] = [line for line in lines if "tasks run without it" not in line]
    assert shown.startswith("UsageError: ") and shown.endswith("cannot be used: file is not a database")
