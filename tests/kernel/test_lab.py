"""The kernel's side of the JupyterLab extension: requests, and published states."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

MIME_TYPE = "application/vnd.nbtasks.lab+json"


def ask(kernel: KernelDriver, **request: Any) -> dict[str, Any] | None:
    """The kernel's answer; None from a kernel without nbtasks."""
    content = {"target_name": "nbtasks.lab", "nbtasks": request}
    reply = kernel.request("comm_info_request", content, channel="control")
    assert reply["status"] == "ok"
    assert reply["comms"] == {}
    return reply.get("nbtasks")


def states(kernel: KernelDriver) -> list[dict[str, Any]]:
    """The published states so far."""
    with kernel.changed:
        data = [one.content["data"] for one in kernel.messages if one.type == "update_display_data"]
    return [one[MIME_TYPE] for one in data if MIME_TYPE in one]


def statuses(kernel: KernelDriver) -> list[tuple[str, str]]:
    """The published statuses so far, each with the kind of request that it belongs to."""
    with kernel.changed:
        found = [one for one in kernel.messages if one.type == "status"]
    return [(one.content["execution_state"], one.message["parent_header"].get("msg_type", "")) for one in found]


def last_task(kernel: KernelDriver, name: str) -> dict[str, Any]:
    """The task in the last published state; empty if it is not there."""
    tasks = states(kernel)[-1].get("tasks", []) if states(kernel) else []
    return next((task for task in tasks if task["name"] == name), {})


def test_a_kernel_without_nbtasks_answers_that_it_has_none(kernel: KernelDriver) -> None:
    assert ask(kernel, action="watch", seconds=60) is None


def test_loading_and_unloading_are_published(kernel: KernelDriver) -> None:
    load(kernel)
    assert [(one["version"], one["loaded"]) for one in states(kernel)] == [(1, True)]
    kernel.run("%unload_ext nbtasks").check()
    assert states(kernel)[-1] == {"version": 1, "loaded": False}
    assert ask(kernel, action="watch", seconds=60) is None


def test_nothing_is_published_before_the_first_watch(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("%%bgtask fit\nfor _ in track(range(3)): pass").check()
    wait_over(kernel, "fit")
    assert len(states(kernel)) == 1


def test_states_and_cancel_while_a_cell_blocks_the_kernel(kernel: KernelDriver) -> None:
    load(kernel)
    fit = kernel.run("%%bgtask fit\ncurrent_task().progress = 64\nwhile not gates['go'].wait(0.01): pass").check()
    blocking = kernel.start_cell("print('blocks', flush=True)\ngates['free'].wait()").wait_output("blocks")
    answer = ask(kernel, action="watch", seconds=60)
    assert answer is not None
    assert answer["status"] == "ok"
    (entry,) = answer["state"]["tasks"]
    assert (entry["state"], entry["progress"], entry["cell_id"]) == ("running", 64, fit.cell_id)
    assert ask(kernel, action="cancel", task=entry["id"]) == {"status": "ok"}
    kernel.wait_until(lambda: last_task(kernel, "fit").get("state") == "cancelled", what="the state 'cancelled'")
    assert not blocking.done
    kernel.interrupt()
    blocking.wait()


def test_the_status_stays_busy_while_a_cell_runs_whatever_else_is_answered(kernel: KernelDriver) -> None:
    load(kernel)
    cell = kernel.start_cell("print('blocks', flush=True)\nwhile not gates['free'].wait(0.01): pass")
    cell.wait_output("blocks")
    for _ in range(3):
        ask(kernel, action="watch", seconds=60)
    kernel.wait_until(lambda: statuses(kernel).count(("idle", "comm_info_request")) >= 3, what="three answers")
    kernel.wait_until(lambda: statuses(kernel)[-1] == ("busy", "execute_request"), what="the status of the cell")
    kernel.interrupt()
    cell.wait()
    kernel.wait_until(lambda: statuses(kernel)[-1] == ("idle", "execute_request"), what="the end of the cell")
    ask(kernel, action="watch", seconds=60)
    kernel.wait_until(lambda: statuses(kernel)[-1] == ("idle", "comm_info_request"), what="the last answer")


def test_progress_is_published_at_a_limited_rate_and_its_end_always(kernel: KernelDriver) -> None:
    load(kernel)
    ask(kernel, action="watch", seconds=60)
    kernel.run("%%bgtask fit\nimport time\nfor _ in track(range(200)): time.sleep(0.01)").check()
    wait_over(kernel, "fit")
    kernel.wait_until(lambda: last_task(kernel, "fit").get("state") == "completed", what="the state 'completed'")
    shares = [task["progress"] for one in states(kernel) for task in one["tasks"]]
    assert len([share for share in shares if share is not None and 0 < share < 100]) >= 2
    assert shares[-1] == 100
    assert len(states(kernel)) <= 30  # of 200 steps


def test_a_watch_ends_unless_it_is_renewed(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("%%bgtask first --quiet\n1").check()
    ask(kernel, action="watch", seconds=0.001)
    kernel.run("from nbtasks.notebook.extension import loaded").check()
    views = "sum(map(len, loaded(get_ipython()).session.panels._live._views.values()))"
    kernel.run("%%bgtask a --quiet\n1").check()
    wait_over(kernel, "a")
    kernel.wait_until(lambda: kernel.value(views) == 1, what="the end of the view")  # that of the notifications
    before = len(states(kernel))
    kernel.run("%%bgtask b --quiet\n1").check()
    wait_over(kernel, "b")
    assert len(states(kernel)) == before
    ask(kernel, action="watch", seconds=60)
    kernel.wait_until(lambda: last_task(kernel, "b"), what="a state after the watch was begun again")


def test_a_watch_that_began_without_a_task_imports_nothing_until_there_is_one(kernel: KernelDriver) -> None:
    load(kernel)
    answer = ask(kernel, action="watch", seconds=60)
    assert answer is not None and answer["state"]["tasks"] == []
    kernel.run("import sys").check()
    assert kernel.value("'nbtasks.widgets.snapshot' in sys.modules") is False
    kernel.run("get_manager().create_task('plain', str).wait()").check()
    kernel.wait_until(lambda: last_task(kernel, "plain").get("state") == "completed", what="the state 'completed'")


def test_a_schedule_is_paused_and_resumed(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("%%bgtask tick --every 1h\n1").check()
    answer = ask(kernel, action="watch", seconds=60)
    assert answer is not None
    (entry,) = (one for one in answer["state"]["tasks"] if one["kind"] == "schedule")
    assert ask(kernel, action="pause", task=entry["id"]) == {"status": "ok"}
    kernel.wait_until(lambda: last_task(kernel, "tick").get("state") == "paused", what="the state 'paused'")
    assert ask(kernel, action="resume", task=entry["id"]) == {"status": "ok"}
    kernel.wait_until(lambda: last_task(kernel, "tick").get("state") == "scheduled", what="the state 'scheduled'")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"action": "dance"}, "action must be watch, adopt, cancel, pause, resume, not 'dance'"),
        ({"action": "watch"}, "seconds must be above 0 and at most 600, not None"),
        ({"action": "watch", "seconds": True}, "not True"),
        ({"action": "watch", "seconds": 601}, "not 601"),
        ({"action": "watch", "seconds": -1}, "not -1"),
        ({"action": "cancel", "task": "x"}, "no task 'x'"),
        ({"action": "cancel", "task": ["x"]}, "no task ['x']"),
        ({"action": "adopt"}, "request must be the id of the cell's request, not None"),
    ],
)
def test_a_wrong_request_is_an_error_that_names_the_value(
    kernel: KernelDriver, request_: dict[str, Any], message: str
) -> None:
    load(kernel)
    answer = ask(kernel, **request_)
    assert answer is not None
    assert answer["status"] == "error"
    assert message in answer["message"]


def test_other_requests_for_comms_are_answered_as_before(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import ipywidgets\nslider = ipywidgets.IntSlider()").check()
    reply = kernel.request("comm_info_request", {"target_name": "jupyter.widget"}, channel="control")
    assert kernel.value("slider.model_id") in reply["comms"]


def test_the_running_cell_is_sent_to_the_background_by_its_request(kernel: KernelDriver) -> None:
    load(kernel)
    running = kernel.start_cell("print('begun', flush=True)\ngates['go'].wait()").wait_output("begun")
    if not kernel.supports_subshells:
        answer = ask(kernel, action="adopt", request=running.msg_id)
        assert answer is not None
        assert "ipykernel 7.0 or later" in answer["message"]
        kernel.interrupt()
        running.wait()
        return
    queued = kernel.start_cell("'queued'")
    refused = ask(kernel, action="adopt", request=queued.msg_id)
    assert refused is not None
    assert refused["status"] == "error"
    answer = ask(kernel, action="adopt", request=running.msg_id)
    assert answer is not None
    assert answer["status"] == "ok"
    assert "'queued'" in queued.wait().text
    watched = ask(kernel, action="watch", seconds=60)
    assert watched is not None
    (entry,) = watched["state"]["tasks"]
    assert (entry["id"], entry["state"]) == (answer["task"], "running")
    assert (entry["cell_id"], entry["adopted_request"]) == (running.cell_id, running.msg_id)
    assert watched["state"]["adopt_refusal"] == ""
    kernel.run("gates['go'].set()").check()
    running.check()


def foreground(kernel: KernelDriver) -> dict[str, Any] | None:
    answer = ask(kernel, action="watch", seconds=60)
    assert answer is not None
    running: dict[str, Any] | None = answer["foreground"]
    return running


def test_a_watch_is_told_which_cell_runs(kernel: KernelDriver) -> None:
    load(kernel)
    assert foreground(kernel) is None
    running = kernel.start_cell("print('begun', flush=True)\ngates['go'].wait()").wait_output("begun")
    if not kernel.supports_subshells:
        assert foreground(kernel) is None
        kernel.interrupt()
        running.wait()
        return
    cell = foreground(kernel)
    assert cell is not None
    assert (cell["request"], cell["cell_id"]) == (running.msg_id, running.cell_id)
    assert cell["seconds"] > 0
    behind = kernel.start_cell("print('behind', flush=True)\nwhile not gates['behind'].wait(0.01): pass")
    ask(kernel, action="adopt", request=running.msg_id)
    behind.wait_output("behind")
    cell = foreground(kernel)
    assert cell is not None
    assert cell["request"] == behind.msg_id
    kernel.interrupt()
    behind.wait()
    kernel.run("gates['go'].set()").check()
    running.check()
    kernel.wait_until(lambda: foreground(kernel) is None, what="no running cell")


def test_a_silent_request_is_no_running_cell(kernel: KernelDriver) -> None:
    load(kernel)
    silent = kernel.start_cell("print('begun', flush=True)\ngates['go'].wait()", silent=True, store_history=False)
    silent.wait_output("begun")
    assert foreground(kernel) is None
    kernel.interrupt()
    silent.wait()
