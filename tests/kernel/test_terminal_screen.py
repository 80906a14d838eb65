"""Panels and tables at the bottom of a terminal during a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pexpect", reason="IPython's terminal is driven by pexpect, which needs a pseudo-terminal")
pytest.importorskip("pyte", reason="pyte says what is on a terminal's screen")

from tests.kernel.conftest import kernel_env
from tests.kernel.terminal import Screen, Terminal

FULL, EMPTY = "█", "░"
PASSES = "def passes(name):\n    while not os.path.exists(name): time.sleep(0.01)\n"


@pytest.fixture
def terminal(tmp_path) -> Iterator[Terminal]:
    with Terminal(kernel_env(tmp_path), tmp_path, Screen()) as terminal:
        terminal.run("import os, subprocess, time; from nbtasks import current_task, get_manager, track")
        terminal.run("%load_ext nbtasks")
        terminal.run(PASSES)
        yield terminal


@pytest.fixture
def open_gate(tmp_path) -> Callable[[str], None]:
    """Let the `passes(name)` of a task return, while the terminal itself waits."""
    return lambda name: (tmp_path / name).touch()


def wait_below(terminal: Terminal, *words: str, bars: list[int] | None = None) -> list[str]:
    """Wait until the last lines have these words, and bars this far; returns the lines of the screen."""

    def seen(lines: list[str]) -> bool:
        full = [line.count(FULL) for line in lines if EMPTY in line]
        return all(word in "\n".join(lines[-4:]) for word in words) and bars in (None, full)

    return terminal.wait_seen(seen, f"{words} with bars {bars}")


def test_a_wait_shows_a_panel_that_is_updated_in_place_and_removed(terminal, open_gate):
    steps = "for n in range(5):\n    current_task().progress, current_task().body = 20 * n, f'epoch {n}'\n"
    terminal.run(f"%%bgtask fit\n{steps}    passes(f'gate{{n}}')")
    terminal.start("%bgtask wait fit")
    for number in range(5):
        lines = wait_below(terminal, f"epoch {number}", f"{20 * number}%", "fit  running", bars=[12 * number])
        assert len([line for line in lines if "fit  running" in line]) == 1
        open_gate(f"gate{number}")
    lines = terminal.wait_prompt()
    assert lines[-1].startswith("In [") and lines[-2:-1] == [""] and lines[-3] == "fit: completed"
    assert not [line for line in lines if FULL in line or EMPTY in line]


def test_output_during_a_wait_scrolls_above_the_panel(terminal, open_gate):
    written = (
        "for n in range(40): print('line', n)\nprint('half a ', end='', flush=True); passes('half'); print('line')\n"
    )
    child = "subprocess.run(['sh', '-c', 'for n in 1 2 3; do echo from a process $n; done'])\npasses('end')"
    terminal.run(f"%%bgtask fit\npasses('begin')\n{written}{child}")
    terminal.start("%bgtask wait fit")
    wait_below(terminal, "fit  running")
    open_gate("begin")
    terminal.wait_seen(lambda lines: "half a" in lines, "half a line")
    open_gate("half")
    lines = terminal.wait_seen(lambda lines: "from a process 3" in lines, "what a process wrote")
    wait_below(terminal, "fit  running")
    start = lines.index("line 30")
    assert lines[start : start + 14] == [
        *(f"line {n}" for n in range(30, 40)),
        "half a line",
        *(f"from a process {n}" for n in (1, 2, 3)),
    ]
    open_gate("end")
    assert "from a process 3" in terminal.wait_prompt()


def test_a_wait_for_several_shows_a_table(terminal, open_gate):
    for name in ("load", "train"):
        terminal.run(f"%%bgtask {name}\ncurrent_task().progress = 50\npasses('{name}')")
    terminal.start("%bgtask wait")
    wait_below(terminal, "2 tasks: 2 running", "load   running", "train  running", "50%", bars=[10, 10])
    open_gate("train")
    wait_below(terminal, "2 tasks: 1 running, 1 completed")
    open_gate("load")
    lines = terminal.wait_prompt()
    assert {"load: completed", "train: completed"} <= set(lines)
    assert not [line for line in lines if EMPTY in line]


def test_as_many_of_the_tasks_are_shown_as_fit_on_the_screen(terminal, open_gate):
    terminal.run(
        "tasks = [get_manager().create_task(f't{n}', lambda: passes('go'), lane='multiple') for n in range(50)]"
    )
    terminal.start("%bgtask wait")
    lines = wait_below(terminal, "more")
    assert lines[-8] == "50 tasks: 10 running, 40 pending" and lines[-1] == "… and 44 more"
    open_gate("go")
    terminal.wait_prompt()


def test_waits_of_tasks_and_managers_show_it_too(terminal, open_gate):
    terminal.run("task = get_manager().create_task('fetch', lambda: passes('go'))")
    terminal.start("task.wait()")
    wait_below(terminal, "fetch  running")
    terminal.interrupt()
    terminal.wait_prompt()
    terminal.start("get_manager().wait(task)")
    wait_below(terminal, "fetch  running")
    open_gate("go")
    lines = terminal.wait_prompt()
    assert not [line for line in lines if EMPTY in line or FULL in line]


def test_an_interrupt_removes_the_panel(terminal, open_gate):
    terminal.run("%%bgtask fit\npasses('go')")
    terminal.start("%bgtask wait fit")
    wait_below(terminal, "fit  running")
    terminal.interrupt()
    lines = terminal.wait_prompt()
    assert "KeyboardInterrupt" in "\n".join(lines) and not [line for line in lines if EMPTY in line]
    assert "'running'" in terminal.run("fit.state.value")
    open_gate("go")
    assert "fit: completed" in terminal.run("%bgtask wait fit")


def test_a_cell_with_wait_shows_the_panel_and_the_final_state(terminal, open_gate):
    terminal.start("%%bgtask fit --wait\npasses('go')\nprint('worked', 'out')\n\n")
    wait_below(terminal, "fit  running")
    open_gate("go")
    lines = terminal.wait_prompt()
    assert "worked out" in lines and [line for line in lines if line.startswith("[completed] fit")]


def test_the_panel_stays_at_the_bottom_when_the_window_is_resized(terminal, open_gate):
    terminal.run("%%bgtask fit\npasses('go')")
    terminal.start("%bgtask wait fit")
    wait_below(terminal, "fit  running")
    terminal.resize(30, 60)
    lines = terminal.wait_seen(lambda lines: len(lines) == 30 and "fit  running" in lines[28], "the panel at the foot")
    assert len([line for line in lines if "fit  running" in line]) == 1
    open_gate("go")
    terminal.wait_prompt()
    assert "42" in terminal.run("6 * 7")


@pytest.mark.parametrize("line", ["%bgtask wait fit", "%%bgtask fit --wait\npass"])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(tmp_path, line):
    with Terminal(kernel_env(tmp_path), tmp_path) as terminal:
        terminal.run("import time")
        terminal.run("%load_ext nbtasks")
        if not line.startswith("%%"):
            terminal.run("%%bgtask fit\ntime.sleep(0.5)")
        printed = terminal.run(line)
        assert "\x1b" not in printed and EMPTY not in printed and "completed" in printed
