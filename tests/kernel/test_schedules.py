"""The controls of schedules (`%bgtask schedules`), in idle and busy kernels."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over
from tests.kernel.test_panel import BUSY_UNTIL_INTERRUPTED, VIEW

pytestmark = pytest.mark.kernel

REPORT = '%%bgtask report --cron "0 8 * * 1-5" --tz Europe/Paris\nn = globals().get("n", 0) + 1\nprint("run", n)'


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


class Controls:
    """The controls of the one schedule that a cell shows."""

    def __init__(self, notebook: KernelDriver) -> None:
        self.notebook = notebook
        self.button("Apply")  # the last one to be made
        [self.expression] = notebook.find_models("TextModel", description="Schedule")
        [self.zone] = notebook.find_models("ComboboxModel", description="Zone")
        [self.presets] = notebook.find_models("DropdownModel")

    def button(self, name: str) -> str:
        """The model of the button with this text; waits for it."""
        self.notebook.wait_until(lambda: self.notebook.find_models("ButtonModel", description=name), what=name)
        [button] = self.notebook.find_models("ButtonModel", description=name)
        return button

    def state(self, model: str) -> dict:
        return self.notebook.models[model]

    @property
    def text(self) -> str:
        """All text of the controls."""
        return "\n".join(self.notebook.models[m]["value"] for m in self.notebook.find_models("HTMLModel"))

    def type(self, **state: str) -> None:
        """Type into the field of that name."""
        for field, text in state.items():
            self.notebook.set_state(getattr(self, field), value=text)

    def wait_text(self, text: str) -> None:
        self.notebook.wait_until(lambda: text in self.text, what=lambda: f"{text!r} in {self.text}")

    def wait_state(self, model: str, **state: object) -> None:
        def reached() -> bool:
            return all(self.state(model)[name] == value for name, value in state.items())

        self.notebook.wait_until(reached, what=lambda: f"{state} in {self.state(model)}")


@pytest.fixture
def controls(notebook: KernelDriver) -> Controls:
    """The controls of `report`, which has no panel."""
    notebook.run(REPORT.replace("--cron", "--quiet --cron")).check()
    data = notebook.run("%bgtask schedules report").check().outputs[0]["data"]
    assert VIEW in data and "report" in data["text/plain"] and "<pre" in data["text/html"]
    return Controls(notebook)


def test_they_show_the_schedule_in_words_its_next_runs_and_its_counters(controls: Controls) -> None:
    assert controls.state(controls.expression)["value"] == "0 8 * * 1-5"
    assert controls.state(controls.zone)["value"] == "Europe/Paris"
    controls.wait_text("At 08:00, Monday to Friday · next in ")
    controls.wait_text("0 runs · 0 failed · 0 skipped")
    assert controls.text.count("08:00") == 6  # in words, and five fires


def test_an_edited_schedule_is_checked_before_it_is_applied(controls: Controls) -> None:
    button = controls.button("Apply")
    assert controls.state(button)["disabled"]
    controls.type(expression="61 * * * *")
    controls.wait_text("minute &#x27;61&#x27;: 61 is out of range")
    assert controls.state(button)["disabled"]
    controls.type(expression="0 0 31 2 *")
    controls.wait_text("never fires: February never has day 31")
    controls.type(expression="0 9 * * *", zone="Europe/Pari")
    controls.wait_text("the nearest are Europe/Paris")
    controls.type(zone="Asia/Tokyo")
    controls.wait_text("At 09:00 · would fire in ")
    controls.wait_state(button, disabled=False)
    assert controls.notebook.value("(str(report.schedule), report.timezone)") == ("0 8 * * 1-5", "Europe/Paris")


def test_the_controls_work_while_the_kernel_is_busy(controls: Controls) -> None:
    notebook = controls.notebook
    if not notebook.supports_subshells:
        pytest.skip("ipykernel 6 handles clicks between cells")
    busy = notebook.start_cell(
        BUSY_UNTIL_INTERRUPTED
        + "print(report.describe(), report.timezone, report.enabled, report.total_runs, "
        + "len(get_manager().list_recurring_tasks()))"
    )
    busy.wait_output("busy")
    controls.type(expression="0 9 * * *", zone="Asia/Tokyo")
    controls.wait_state(controls.button("Apply"), disabled=False)
    notebook.click(controls.button("Apply"))
    controls.wait_text("At 09:00 · next in ")
    notebook.click(controls.button("Pause"))
    controls.wait_text("At 09:00 · paused")
    notebook.click(controls.button("Run now"))
    controls.wait_text("1 run · 0 failed")
    assert not busy.done
    notebook.interrupt()
    assert busy.wait().stdout == "busy\nAt 09:00 Asia/Tokyo False 1 1\n"
    notebook.click(controls.button("Remove"))
    controls.wait_state(controls.button("Really remove?"), button_style="danger")
    notebook.click(controls.button("Really remove?"))
    controls.wait_text("removed")
    assert notebook.value("get_manager().list_recurring_tasks()") == []


def test_changes_made_in_the_manager_are_shown(controls: Controls) -> None:
    notebook = controls.notebook
    controls.type(expression="typed and not applied")
    notebook.run("report.change(schedule='5m')").check()
    controls.wait_state(controls.expression, value="5m")
    controls.wait_text("Every 5 minutes · next in ")
    notebook.run("%bgtask pause report").check()
    controls.wait_state(controls.button("Resume"), disabled=False)
    notebook.run("%bgtask resume report\n%bgtask run report\nget_manager().wait()").check()
    controls.wait_text("1 run · 0 failed · 0 skipped · last took ")


def test_a_preset_and_the_enter_key_do_the_same(controls: Controls) -> None:
    controls.notebook.set_state(controls.presets, index=2)
    controls.wait_state(controls.expression, value="*/5 * * * *")
    controls.wait_text("would fire in ")
    controls.notebook.comm_send(controls.expression, {"method": "custom", "content": {"event": "submit"}})
    controls.wait_text("Every 5 minutes · next in ")
    assert controls.notebook.value("str(report.schedule)") == "*/5 * * * *"


def test_failed_and_skipped_runs_are_shown(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet --cron @yearly\ngates['go'].wait()\nraise ValueError('<b>no data</b>')").check()
    notebook.run("%bgtask schedules it").check()
    controls = Controls(notebook)
    notebook.click(controls.button("Run now"))
    controls.wait_text("running")
    notebook.click(controls.button("Run now"))
    controls.wait_text("is already running (max_concurrent=1)")
    notebook.run("gates['go'].set()").check()
    controls.wait_text("last error: ValueError: &lt;b&gt;no data&lt;/b&gt;")
    controls.wait_text("1 run · 1 failed (1 in a row) · 1 skipped")


def test_the_panel_of_a_recurring_cell_has_the_controls(notebook: KernelDriver) -> None:
    notebook.run(REPORT).check()
    assert not notebook.find_models("TextModel", description="Schedule")
    [switch] = notebook.find_models("ToggleButtonModel", description="Schedule")
    notebook.set_state(switch, value=True)
    notebook.wait_until(lambda: notebook.find_models("TextModel", description="Schedule"), what="the controls")
    controls = Controls(notebook)
    controls.wait_text("At 08:00, Monday to Friday · next in ")
    notebook.click(controls.button("Pause"))
    controls.wait_text("At 08:00, Monday to Friday · paused")


def test_a_custom_schedule_describes_itself(notebook: KernelDriver) -> None:
    notebook.run(
        "from datetime import timedelta\n"
        "class Tides:\n"
        "    def next_after(self, moment): return moment + timedelta(hours=12, minutes=25)\n"
        "    def describe(self): return 'At high tide'\n"
        "get_manager().add_recurring_task(Tides(), print, name='it')\n%bgtask schedules it"
    ).check()
    Controls(notebook).wait_text("At high tide · next in 12:2")  # minutes may have passed on a busy machine


def test_the_name_alone_shows_the_panel(notebook: KernelDriver) -> None:
    notebook.run("it = get_manager().add_recurring_task('1h', print, name='hourly')").check()
    notebook.run("it").check().wait_output("[scheduled] hourly")


def test_all_schedules_are_shown_and_pages_turn(notebook: KernelDriver) -> None:
    notebook.run("for n in range(7): get_manager().add_recurring_task('1h', print, name=f'every-{n}')").check()
    notebook.run("%bgtask schedules").check()

    def names() -> list[str]:
        html = [notebook.models[m]["value"] for m in notebook.find_models("HTMLModel")]
        return sorted({f"every-{n}" for n in range(7) if any(f">every-{n}<" in one for one in html)})

    notebook.wait_until(lambda: names() == [f"every-{n}" for n in range(5)])
    [on] = notebook.find_models("ButtonModel", description="Next")
    notebook.click(on)
    notebook.wait_until(lambda: {"every-5", "every-6"} <= set(names()), what=lambda: f"the next page, not {names()}")
    notebook.run("get_manager().add_recurring_task('1h', print, name='new')").check()
    notebook.wait_until(
        lambda: any("6 to 8 of 8" in notebook.models[m]["value"] for m in notebook.find_models("HTMLModel"))
    )


def test_a_cell_that_ran_is_put_on_a_schedule_by_the_controls(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\nn = globals().get('n', 0) + 1\nprint('run', n)").check()
    wait_over(notebook, "it")
    notebook.run("%bgtask schedules").check()
    [what] = [m for m in notebook.find_models("DropdownModel") if "it" in notebook.models[m]["_options_labels"]]
    [expression] = notebook.find_models("TextModel", description="Schedule")
    [add] = notebook.find_models("ButtonModel", description="Add")
    notebook.set_state(expression, value="1h")
    notebook.wait_until(lambda: not notebook.models[add]["disabled"])
    notebook.click(add)
    notebook.wait_until(lambda: "no task chosen" in str(notebook.models), what="the refusal")
    assert notebook.value("get_manager().list_recurring_tasks()") == []
    notebook.set_state(what, index=notebook.models[what]["_options_labels"].index("it"))
    notebook.click(add)
    notebook.wait_until(lambda: "it: Every hour" in str(notebook.models), what="the schedule")
    notebook.run("%bgtask run it\nget_manager().wait()").check()
    cell.wait_output("run 2")
    assert cell.outputs[1]["data"]["text/plain"] == "run 2" and len(cell.outputs) == 2


def test_a_rerun_closes_the_models_of_the_cells_earlier_controls(controls: Controls) -> None:
    notebook = controls.notebook
    cell = notebook.run("%bgtask schedules").check()
    before = set(notebook.models)
    notebook.rerun(cell).check()
    notebook.wait_until(lambda: controls.expression in notebook.models and len(set(notebook.models) - before) > 5)
    notebook.wait_until(lambda: len(notebook.find_models("TextModel", description="Schedule")) <= 3)


def test_without_widgets_the_schedules_are_text(start_kernel) -> None:
    notebook = load(start_kernel(NBTASKS_WIDGETS="0"))
    notebook.run(REPORT).check()
    [_, line] = notebook.run("%bgtask schedules report").check().stdout.splitlines()
    assert line.startswith("report  0 8 * * 1-5  Europe/Paris  scheduled  in ")
    assert not notebook.models
