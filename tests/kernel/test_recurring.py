"""Recurring cells (`%%bgtask --every`): runs, their output, overlaps, commands."""

from __future__ import annotations

import itertools

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load
from tests.kernel.test_panel import BUSY, VIEW

pytestmark = pytest.mark.kernel

YEARLY = "%%bgtask it --cron @yearly\n"


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def run_now(notebook: KernelDriver, name: str = "it") -> None:
    """Run the cell of a schedule once, and wait for that run."""
    notebook.run(f"%bgtask run {name}\nget_manager().wait()").check()


def test_each_run_replaces_the_output_of_the_run_before_and_keeps_the_panel(notebook: KernelDriver) -> None:
    notebook.run("n = 0").check()
    cell = notebook.run(YEARLY + "n += 1\nprint('printed', n)\ndisplay(f'shown {n}')").check()
    for number in (1, 2, 3):
        run_now(notebook)
        cell.wait_output(f"shown {number}")
        assert len(cell.outputs) == 3
        assert VIEW in cell.outputs[0]["data"] and cell.outputs[1]["data"]["text/plain"] == f"printed {number}"


def test_a_run_without_output_clears_the_output_of_the_run_before(notebook: KernelDriver) -> None:
    notebook.run("say = True").check()
    cell = notebook.run(YEARLY + "if say: print('something')").check()
    run_now(notebook)
    cell.wait_output("something")
    notebook.run("say = False").check()
    run_now(notebook)
    cell.wait_output(lambda cell: "something" not in cell.text)
    assert [output["data"] for output in cell.outputs[1:]] == [{"text/html": "", "text/plain": ""}]


def test_a_failed_run_shows_its_error_until_the_next_run(notebook: KernelDriver) -> None:
    notebook.run("broken = True").check()
    cell = notebook.run(YEARLY + "if broken: raise ValueError('no data')\nprint('fine')").check()
    run_now(notebook)
    cell.wait_output("no data")
    assert notebook.value("(it.total_failures, it.consecutive_failures, it.enabled)") == (1, 1, True)
    notebook.run("broken = False").check()
    run_now(notebook)
    cell.wait_output(lambda cell: "no data" not in cell.text)
    assert cell.outputs[1]["data"]["text/plain"] == "fine"


def test_each_run_takes_a_fresh_snapshot_and_commits(notebook: KernelDriver) -> None:
    notebook.run("source, seen = 1, []").check()
    notebook.run(YEARLY + "seen = [*seen, source]").check()
    run_now(notebook)
    notebook.run("source = 2").check()
    run_now(notebook)
    assert notebook.value("seen") == [1, 2]


def test_the_outputs_of_the_last_runs_are_kept(notebook: KernelDriver) -> None:
    notebook.run("n = 0").check()
    notebook.run(YEARLY + "n += 1\nprint('run', n)").check()
    for _ in range(12):
        run_now(notebook)
    texts = notebook.value("[run.output.text for run in get_manager().search_tasks(parent_id=it.id)]")
    assert texts == [f"run {number}\n" for number in range(3, 13)]
    assert notebook.value("[run.number for run in it.template.runs.kept]") == list(range(3, 13))


def test_the_panel_pages_through_the_outputs_of_the_last_runs(notebook: KernelDriver) -> None:
    notebook.run("n = 0").check()
    notebook.run(YEARLY + "n += 1\nprint('written by run', n)").check()
    for _ in range(3):
        run_now(notebook)

    def shows(text: str) -> bool:
        return any(text in str(notebook.models[view]["outputs"]) for view in notebook.find_models("OutputModel"))

    [switch] = notebook.find_models("ToggleButtonModel", description="Output")
    notebook.set_state(switch, value=True)
    notebook.wait_until(lambda: shows("written by run 3"), what="the newest run")
    [back] = notebook.find_models("ButtonModel", description="Earlier")
    notebook.click(back)
    notebook.wait_until(lambda: shows("written by run 2"), what="the run before")
    notebook.click(back)
    notebook.wait_until(lambda: shows("written by run 1") and notebook.models[back]["disabled"], what="the first run")
    [on] = notebook.find_models("ButtonModel", description="Later")
    notebook.click(on)
    notebook.wait_until(lambda: shows("written by run 2"), what="the run after")


def test_plain_cells_fire_on_time_while_the_foreground_computes(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask tick --every 200ms\nimport time\nprint('at', time.time())\nmoments.append(time.time())"
    )
    notebook.run("moments = []").check()
    busy = notebook.start_cell(BUSY.format(seconds=3) + "\nseen = list(moments)")
    cell.wait_output("at ")
    assert not busy.done
    busy.check()
    seen = notebook.value("seen")
    assert len(seen) >= 4  # of 15 on a quiet machine; beside other programs the kernel gets less
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(seen))
    assert gaps[len(gaps) // 2] == pytest.approx(0.2, abs=0.1)


def test_the_cell_shows_the_later_of_overlapping_runs(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --cron @yearly --max-concurrent 2\nme = turn\n"
        "print('begun', me)\ngates[me].wait()\nprint('over', me)"
    )
    for turn in ("a", "b"):
        notebook.run(f"turn = {turn!r}\n%bgtask run it").check()
        cell.wait_output(f"begun {turn}")
    assert "skipped: 'it' is already running (max_concurrent=2)" in notebook.run("%bgtask run it").check().stdout
    notebook.run("gates['a'].set()\nget_manager().search_tasks(parent_id=it.id)[0].wait()").check()
    notebook.run("gates['b'].set()").check()
    cell.wait_output("over b")
    assert cell.outputs[1]["data"]["text/plain"] == "begun b\nover b"
    assert notebook.value("[t.output.text for t in get_manager().search_tasks(parent_id=it.id)]") == [
        "begun a\nover a\n",
        "begun b\nover b\n",
    ]


def test_schedules_are_listed_paused_resumed_and_removed_by_name(notebook: KernelDriver) -> None:
    notebook.run('%%bgtask report --cron "0 8 * * 1-5" --tz Europe/Paris\n1').check()
    assert notebook.value("(report.timezone, report.describe())") == ("Europe/Paris", "At 08:00, Monday to Friday")
    [_, line, _] = notebook.run("%bgtask schedules report").check().text.splitlines()
    assert line.startswith("report  0 8 * * 1-5  Europe/Paris  scheduled  in ")
    assert notebook.run("%bgtask pause report").check().stdout == "report is paused\n"
    assert notebook.value("(report.enabled, report.next_run)") == (False, None)
    assert "report is resumed; next run in " in notebook.run("%bgtask resume report").check().stdout
    assert notebook.complete("%bgtask pause re") == ["report"]
    notebook.run("%bgtask remove report").check()
    assert notebook.value("get_manager().list_recurring_tasks()") == []


def test_a_rerun_of_the_cell_replaces_or_removes_its_schedule(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask --every 1h\n1").check()
    notebook.run("get_manager().wait()").check()  # a rerun beside the first run, which is at once, is refused
    again = notebook.rerun(cell, "%%bgtask --every 2h\n1").check()
    schedules = "[str(one.schedule) for one in get_manager().list_recurring_tasks()]"
    assert notebook.value(schedules) == ["2h"]
    notebook.run("get_manager().wait()").check()
    notebook.rerun(again, "%%bgtask\n1").check()
    assert notebook.value(schedules) == []


def test_a_static_picture_replaces_the_panel_of_a_removed_schedule(notebook: KernelDriver) -> None:
    cell = notebook.run(YEARLY + "1").check()
    notebook.run("%bgtask remove it").check()
    cell.wait_output("[removed] it")
    assert VIEW not in cell.outputs[0]["data"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('--cron "61 * * * *"', "minute '61': 61 is out of range"),
        ('--cron "0 0 31 2 *"', "never fires: February never has day 31"),
        ("--cron 5m", "has 1 field"),
        ('--cron "0 8 * * *" --tz Europe/Pari', "unknown time zone 'Europe/Pari'; the nearest are Europe/Paris"),
        ("--every 5m --tz Europe/Pari", "unknown time zone"),
        ("--every 0s", "an interval must be longer than zero, not '0s'"),
        ("--every soon", "'soon' is not an interval"),
        ("--every 5m --cron @hourly", "use either --every or --cron, not both"),
        ("--every 5m --wait", "--wait is for a cell that runs once"),
        ("--every 5m --detach", "--detach is for a cell that runs once"),
        ("--every 5m --max-concurrent 0", "--max-concurrent must be a whole number from 1 on, not 0"),
        ("--every 5m --lane fast", "unknown lane 'fast'"),
        ("--tz Europe/Paris", "--tz needs a schedule"),
    ],
)
def test_a_wrong_schedule_is_a_one_line_error_and_schedules_nothing(module_kernel, line: str, message: str) -> None:
    module_kernel.run("%load_ext nbtasks\nfrom nbtasks import get_manager").check()
    cell = module_kernel.run(f"%%bgtask wrong {line}\n1")
    assert cell.stderr.startswith("UsageError: ") and message in cell.stderr and cell.stderr.count("\n") == 1
    assert module_kernel.value("(get_manager().list_recurring_tasks(), 'wrong' in globals())") == ([], False)


def test_a_running_task_cannot_be_a_template(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\ngates['go'].wait()").check()
    cell = notebook.run("get_manager().add_recurring_task('5m', it)")
    assert "is running: a template is never run itself" in cell.errors[0]
    again = notebook.run(YEARLY + "1")
    assert "'it' is still running" in again.stderr
    assert notebook.value("get_manager().list_recurring_tasks()") == []
    notebook.run("gates['go'].set()").check()
