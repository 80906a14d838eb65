"""Features that are tied to one thread: signals, and databases in memory."""

from __future__ import annotations

import importlib.util

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def _needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


LIMITED = """
import signal
def limited(seconds, function):
    before = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
"""


def test_a_signal_handler_in_a_thread_is_refused_with_what_to_do(notebook: KernelDriver) -> None:
    notebook.run(LIMITED).check()
    cell = notebook.run("%%bgtask it\nscore = limited(1, lambda: 42)").check()
    wait_over(notebook, "it")
    assert notebook.value("it.exception.__class__.__name__") == "ValueError"
    assert notebook.value("it.error").startswith("ValueError: signal only works in main thread")
    cell.wait_output("run the cell with --backend process, or with --backend loop")


@pytest.mark.parametrize("backend", ["loop", "process"])
def test_signals_work_where_the_error_says(notebook: KernelDriver, backend: str) -> None:
    notebook.run(LIMITED).check()
    notebook.run(f"%%bgtask it --backend {backend}\nscore = limited(60, lambda: 42)").check()
    notebook.run("await it").check()
    assert notebook.value("score") == 42


@pytest.mark.parametrize("alarm", ["signal.alarm(60)", "signal.setitimer(signal.ITIMER_REAL, 60)"])
def test_an_alarm_in_a_thread_is_refused_and_never_reaches_the_foreground(notebook: KernelDriver, alarm: str) -> None:
    notebook.run(f"%%bgtask it\nimport signal\n{alarm}").check()
    wait_over(notebook, "it")
    assert "--backend process" in str(notebook.value("it.error"))
    assert notebook.value("__import__('signal').alarm(0)") == 0


def test_switching_off_an_alarm_in_a_thread_leaves_the_foregrounds_alone(notebook: KernelDriver) -> None:
    notebook.run("import signal\nsignal.alarm(600);").check()
    notebook.run("%%bgtask it\nsignal.alarm(0)\nsignal.setitimer(signal.ITIMER_REAL, 0)").check()
    notebook.run("await it").check()
    assert notebook.value("signal.alarm(0)") > 0


def test_the_foreground_and_its_threads_have_pythons_own_functions(notebook: KernelDriver) -> None:
    notebook.run("import signal, threading\nerrors = []").check()
    notebook.run(
        "def set_handler():\n    try:\n        signal.signal(signal.SIGALRM, signal.SIG_DFL)\n"
        "    except ValueError as error:\n        errors.append(str(error))\n"
        "thread = threading.Thread(target=set_handler); thread.start(); thread.join()\n"
        "signal.signal(signal.SIGALRM, signal.SIG_DFL);"
    ).check()
    assert notebook.value("errors") == ["signal only works in main thread of the main interpreter"]


MEMORY = """
import sqlalchemy, pandas as pd
engine = sqlalchemy.create_engine("sqlite://")
"""


@_needs("sqlalchemy")
def test_an_in_memory_database_of_sqlalchemy_is_reported_in_the_cell(notebook: KernelDriver) -> None:
    notebook.run(MEMORY).check()
    cell = notebook.run("%%bgtask it\npd.DataFrame({'a': [1]}).to_sql('t', engine)").check()
    notebook.run("await it").check()
    cell.wait_output("Engine(sqlite://) is an in-memory database of which each thread has its own")
    cell.wait_output("--backend loop")
    assert cell.text.count("is an in-memory database") == 1


@_needs("sqlalchemy")
@pytest.mark.parametrize(
    "change",
    [
        "pass",
        "engine = sqlalchemy.create_engine('sqlite://', poolclass=sqlalchemy.StaticPool,"
        " connect_args={'check_same_thread': False})",
        "engine = sqlalchemy.create_engine('sqlite:///rows.db')",
    ],
    ids=["loop", "StaticPool", "file"],
)
def test_what_the_report_advises_keeps_the_rows(notebook: KernelDriver, change: str) -> None:
    backend = "loop" if change == "pass" else "thread"
    notebook.run(f"{MEMORY}\n{change}").check()
    cell = notebook.run(f"%%bgtask it --backend {backend}\npd.DataFrame({{'a': [1]}}).to_sql('t', engine)").check()
    notebook.run("await it").check()
    notebook.run("rows = len(pd.read_sql('select * from t', engine))").check()
    assert notebook.value("rows") == 1
    assert "is an in-memory database" not in cell.text


@_needs("peewee")
def test_an_in_memory_database_of_peewee_is_reported_in_the_cell(notebook: KernelDriver) -> None:
    notebook.run("import peewee\ndb = peewee.SqliteDatabase(':memory:')\ndb.execute_sql('create table t (a)');").check()
    cell = notebook.run("%%bgtask it\ndb.execute_sql('create table if not exists t (a)');").check()
    notebook.run("await it").check()
    cell.wait_output("SqliteDatabase(':memory:') is an in-memory database of which each thread has its own")


def test_a_connection_of_sqlite3_raises_its_own_error(notebook: KernelDriver) -> None:
    notebook.run("import sqlite3\nconnection = sqlite3.connect(':memory:')").check()
    cell = notebook.run("%%bgtask it\nconnection.execute('create table t (a)')").check()
    wait_over(notebook, "it")
    cell.wait_output("SQLite objects created in a thread can only be used in that same thread")
    cell.wait_output("nbtasks: connections of sqlite3 belong to the thread that has opened them")
