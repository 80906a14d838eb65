"""`%bgtask export`: a recurring cell handed over to another scheduler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

CELLS = [
    "%load_ext nbtasks\nfactor = 6",
    '%%bgtask answer --cron "0 8 * * 1-5" --tz Europe/Paris\nprint("the answer is", factor * 7)',
]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "50% of it.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in CELLS]), path)
    return path


def start(kernel: KernelDriver) -> KernelDriver:
    load(kernel)
    for source in CELLS:
        kernel.run(source).check()
    return kernel


def test_the_line_for_cron_runs_the_cell(kernel: KernelDriver, notebook: Path, tmp_path: Path) -> None:
    text = start(kernel).run(f"%bgtask export answer --to cron --notebook '{notebook}'").check().text
    assert "CRON_TZ=Europe/Paris\n" in text and "%bgtask pause answer" in text
    [line] = re.findall(r"^0 8 \* \* 1-5 (.*)$", text, re.MULTILINE)
    command = line.replace(r"\%", "%")  # what cron does with it
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    subprocess.run(["/bin/sh", "-c", command], env=env, cwd=tmp_path, timeout=120, check=True)
    outputs = nbformat.read(notebook, as_version=4).cells[1].outputs
    assert "the answer is 42\n" in "".join(output.get("text", "") for output in outputs)


def test_every_target(kernel: KernelDriver, notebook: Path) -> None:
    start(kernel)
    first_lines = {
        "systemd": "OnCalendar=Mon..Fri *-*-* 08:00:00 Europe/Paris",
        "jupyter-scheduler": '"schedule": "0 8 * * 1-5"',
        "airflow": "CronTriggerTimetable('0 8 * * 1-5', timezone='Europe/Paris')",
        "github-actions": '- cron: "0 8 * * 1-5"',
    }
    for target, line in first_lines.items():
        text = kernel.run(f"%bgtask export answer --to {target} --notebook '{notebook}'").check().text
        assert line in text
        assert (sys.executable in text) == (target != "github-actions")  # that is another machine
        assert "What changes:\n- " in text and "save the notebook first" not in text


def test_the_notebook_is_that_of_the_kernel(start_kernel, notebook: Path) -> None:
    kernel = start(start_kernel(JPY_SESSION_NAME=str(notebook)))
    assert f"run '{notebook}'".replace("%", r"\%") in kernel.run("%bgtask export answer --to cron").check().text
    kernel.run("%%bgtask other --every 5m\n1").check()
    text = kernel.run("%bgtask export other --to cron").check().text
    assert "*/5 * * * * " in text or re.search(r"^[1-4]-5\d/5 \* \* \* \* ", text, re.MULTILINE)
    assert "save the notebook first: 50% of it.ipynb has no cell that begins with %%bgtask other" in text


def test_errors(kernel: KernelDriver, notebook: Path) -> None:
    start(kernel)
    kernel.run("plain = get_manager().add_recurring_task('1h', lambda: 1, name='plain')").check()
    kernel.run("%%bgtask days --cron '0 8 15W * *'\n1").check()
    for line, problem in (
        ("export", "the following arguments are required: name"),
        ("export answer", "add --to and one of cron, systemd"),
        ("export answr --to cron", "did you mean 'answer'"),
        ("export answer --to cron", "this kernel does not know its notebook's file; add --notebook PATH"),
        ("export answer --to cron --notebook nowhere.ipynb", "there is no notebook 'nowhere.ipynb'"),
        (f"export answer --to corn --notebook '{notebook}'", "did you mean 'cron'"),
        ("export plain --to cron", "'plain' is no cell"),
        (f"export days --to cron --notebook '{notebook}'", "use --to systemd"),
    ):
        cell = kernel.run(f"%bgtask {line}")
        assert problem in cell.text + cell.stderr and "Traceback" not in cell.text + cell.stderr, line


def test_names_options_and_targets_complete(kernel: KernelDriver) -> None:
    start(kernel)
    assert "export" in kernel.complete("%bgtask exp")
    assert {"answer", "--to", "--notebook"} <= set(kernel.complete("%bgtask export "))
    assert {"cron", "systemd"} <= set(kernel.complete("%bgtask export answer --to "))
    assert "%bgtask export " in kernel.run("%bgtask help").check().text
