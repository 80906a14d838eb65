"""Exported schedules in the real jupyter-scheduler and Airflow.

Each has an environment of its own, since its pins do not go with those of the tests: jupyter-scheduler demands
croniter 1.4.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbtasks.schedules.export import export
from tests.schedules.test_export import COUNT, START, cell, exported_or_none, expressions, notes_of, ours, text_of

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = Path(__file__).parent
PARIS = "Europe/Paris"
GAP = datetime(2026, 3, 28, 12, tzinfo=UTC)
REPEAT = datetime(2026, 10, 24, 12, tzinfo=UTC)
SEVERAL = st.lists(expressions(), min_size=20, max_size=40)
FEW = settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with these packages, made once; skips if they cannot be installed."""
    folder = ROOT / ".venvs" / name
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *packages], check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"{packages} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "made").touch()
    return python


def iso(moments: list[datetime]) -> list[str]:
    return [moment.isoformat() for moment in moments]


# -- jupyter-scheduler -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jupyter_scheduler() -> Path:
    return environment("jupyter-scheduler", "jupyter-scheduler>=2.5", "setuptools<81")


def job_fires(python: Path, cases: list[dict[str, Any]]) -> list[list[str]]:
    done = subprocess.run(
        [str(python), str(SCRIPTS / "jupyter_scheduler_fires.py")],
        input=json.dumps(cases),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded: list[list[str]] = json.loads(done.stdout)
    return loaded


def job_case(exported: Any, start: datetime) -> dict[str, Any]:
    return {"definition": json.loads(text_of(exported, ".json")), "start": start.isoformat(), "count": COUNT}


@given(chosen=SEVERAL)
@FEW
def test_jupyter_scheduler_runs_jobs_at_our_times(jupyter_scheduler: Path, chosen: list[str]) -> None:
    found = [pair for one in chosen if (pair := exported_or_none("jupyter-scheduler", one)) is not None]
    theirs = job_fires(jupyter_scheduler, [job_case(exported, START) for _, exported in found])
    assert dict(zip([str(one.schedule) for one, _ in found], theirs, strict=True)) == {
        str(one.schedule): iso(ours(one)) for one, _ in found
    }


@pytest.mark.parametrize("start", [GAP, REPEAT])
def test_jupyter_scheduler_agrees_or_notes_say_the_difference(jupyter_scheduler: Path, start: datetime) -> None:
    texts = ["30 2 * * *", "*/30 1-3 * * *", "0 8 * * *", "0 */2 * * *", "0 8 * * 5#2"]
    cells = [cell(text, PARIS, start=start) for text in texts]
    exports = [export("jupyter-scheduler", one) for one in cells]
    theirs = job_fires(jupyter_scheduler, [job_case(exported, start) for exported in exports])
    for one, exported, times in zip(cells, exports, theirs, strict=True):
        assert notes_of(exported, "clock changes")
        if times != iso(ours(one, start)):
            moments = [datetime.fromisoformat(time).astimezone(ZoneInfo(PARIS)) for time in times]
            assert len({moment.utcoffset() for moment in [*moments, start.astimezone(ZoneInfo(PARIS))]}) > 1


# -- Airflow -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def airflow() -> Path:
    return environment("airflow", "apache-airflow==2.10.*")


def dag_fires(python: Path, folder: Path, exports: list[Any], start: datetime) -> dict[str, list[str]]:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    for exported in exports:
        for name, text in exported.files.items():
            (folder / name).write_text(text)
    command = [str(python), str(SCRIPTS / "airflow_fires.py"), str(folder), start.isoformat(), str(COUNT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["errors"] == {}
    assert all(tasks == ["run"] for tasks in loaded["tasks"].values())
    times: dict[str, list[str]] = loaded["fires"]
    return times


@given(chosen=SEVERAL)
@FEW
def test_airflow_runs_dags_at_our_times(airflow: Path, tmp_path: Path, chosen: list[str]) -> None:
    cells = []
    for number, expression in enumerate(chosen):
        if exported_or_none("airflow", expression) is not None:
            cells.append(cell(expression, name=f"n{number}"))
    theirs = dag_fires(airflow, tmp_path / "dags", [export("airflow", one) for one in cells], START)
    assert {one.slug: theirs[one.slug] for one in cells} == {one.slug: iso(ours(one)) for one in cells}


def test_the_notes_on_clock_changes_are_what_airflow_does(airflow: Path, tmp_path: Path) -> None:
    fixed = cell("30 2 * * *", PARIS, name="fixed")
    wild = cell("*/30 * * * *", PARIS, name="wild")
    exports = [export("airflow", one) for one in (fixed, wild)]
    assert all("runs later by the length of the gap" in notes_of(exported, "clock changes") for exported in exports)
    gap = dag_fires(airflow, tmp_path / "dags", exports, GAP)
    assert gap[fixed.slug][:2] == ["2026-03-29T01:30:00+00:00", "2026-03-30T00:30:00+00:00"]  # the first at 03:30
    assert iso(ours(fixed, GAP))[:2] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]
    repeat = dag_fires(airflow, tmp_path / "dags", exports, REPEAT)
    assert repeat[fixed.slug][:2] == ["2026-10-25T01:30:00+00:00", "2026-10-26T01:30:00+00:00"]  # the second 02:30
    assert iso(ours(fixed, REPEAT))[:2] == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]
    for start in (GAP + timedelta(hours=12), REPEAT + timedelta(hours=12)):
        assert dag_fires(airflow, tmp_path / "dags", exports, start)[wild.slug] == iso(ours(wild, start))


def test_an_interval_in_airflow(airflow: Path, tmp_path: Path) -> None:
    one = cell("90m", PARIS)
    theirs = dag_fires(airflow, tmp_path / "dags", [export("airflow", one)], START)
    assert theirs[one.slug] == iso(ours(one))
