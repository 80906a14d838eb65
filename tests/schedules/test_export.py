"""Export of schedules, compared with the fires of the other schedulers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.schedules import find_zone, next_fire_times, parse_schedule, zone_name
from nbtasks.schedules.business_hours import business_hours
from nbtasks.schedules.export import TARGETS, Export, ExportedCell, export
from nbtasks.schedules.rules import Rules
from nbtasks.schedules.timezones import LOCAL
from tests.examples import examples
from tests.schedules.cron_oracle import Job, fires
from tests.schedules.cron_strategies import jobs

START = datetime(2026, 11, 30, 9, 17, tzinfo=UTC)
COUNT = 5
NEEDS_SYSTEMD = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
NEEDS_CRON = pytest.mark.skipif(not shutil.which("crontab"), reason="crontab is not installed")
# Days and weekdays that only some targets know, beside those of `cron_strategies`.
SPECIAL_DAYS = st.sampled_from(["L", "L-3", "15W", "1W", "30W", "LW", "L,15", "*/2", "1-31", "13", "1,L-1,20W", "29W"])
SPECIAL_WEEKDAYS = st.sampled_from(["5L", "5#2", "1#5,3#1", "FRI-MON", "0,6", "*/2", "0-6", "2", "1,5#3"])


def cell(schedule: str, zone: str = "UTC", *, start: datetime = START, **changes: Any) -> ExportedCell:
    """A cell on that schedule, as of `start`."""
    parsed = parse_schedule(schedule, zone, hash_id="nightly")
    first = parsed.next_after(start)
    assert first is not None
    given = {
        "name": "nightly",
        "notebook": "/srv/reports/report.ipynb",
        "python": "/opt/venv/bin/python",
        "zone": find_zone(zone),
        "zone_name": None if zone == "local" else zone,
    }
    return ExportedCell(**{**given, "schedule": parsed, "first": first, **changes})


def ours(one: ExportedCell, start: datetime = START) -> list[datetime]:
    return [fire.astimezone(UTC) for fire in next_fire_times(one.schedule, None, start, COUNT)]


def text_of(exported: Export, ending: str) -> str:
    [text] = [text for name, text in exported.files.items() if name.endswith(ending)]
    return text


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def notes_of(exported: Export, kind: str) -> str:
    return "\n".join(note for note in exported.notes if note.startswith(kind))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Expressions of five or six fields, with days of all kinds."""
    texts = list(draw(jobs()).texts)
    if draw(st.booleans()):
        texts[2] = draw(SPECIAL_DAYS)
    if draw(st.booleans()):
        texts[4] = draw(SPECIAL_WEEKDAYS)
    if draw(st.integers(0, 3)) == 0:
        texts.insert(0, draw(st.sampled_from(["0", "30", "*/20", "5,6"])))
    return " ".join(texts)


def exported_or_none(target: str, expression: str, zone: str = "UTC", start: datetime = START) -> Any:
    """The cell and its export; None for what never fires or, as an error explains, cannot be expressed."""
    try:
        one = cell(expression, zone, start=start)
    except InvalidScheduleError:
        return None
    try:
        return one, export(target, one)
    except InvalidScheduleError as error:
        message = str(error)
        assert message.startswith(f"{target} cannot express the schedule of 'nightly' ({one.schedule}): ")
        nearest = re.search(r"; use --to (\S+)$", message)
        if nearest:
            export(nearest[1], one)
        else:
            assert message.endswith("keep it in nbtasks: nbtasks run NOTEBOOK")
        return None


# -- systemd -----------------------------------------------------------------------------------------------------------


def calendar_fires(exported: Export, start: datetime, count: int = COUNT) -> list[datetime]:
    """The next fires of the timer's OnCalendar lines, by systemd itself."""
    lines = re.findall(r"^OnCalendar=(.*)$", text_of(exported, ".timer"), re.MULTILINE)
    base = f"--base-time={start.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    command = ["systemd-analyze", "calendar", f"--iterations={count}", base, *lines]
    output = subprocess.run(command, env={"TZ": "UTC", "LC_ALL": "C"}, check=True, capture_output=True, text=True)
    times = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", output.stdout)
    found = {datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times}
    return sorted(found)[:count]


@NEEDS_SYSTEMD
@given(expressions())
@settings(max_examples=examples(15, 40), deadline=None)
@example("0 9 1,L-1,20W * 1,5#3")
@example("0 0 29W 2 *")
@example("0 0 30W 2,4 *")
@example("0 0 */2 * 1#5,3#1")
def test_systemd_fires_at_our_times(expression: str) -> None:
    found = exported_or_none("systemd", expression)
    assume(found)
    one, exported = found
    assert calendar_fires(exported, START) == ours(one)


@NEEDS_SYSTEMD
@given(expressions(), st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe"]), st.integers(0, 370))
@settings(max_examples=examples(12, 30), deadline=None)
def test_systemd_fires_at_our_times_or_the_notes_tell_the_difference(expression: str, zone: str, days: int) -> None:
    start = START + timedelta(days=days)
    found = exported_or_none("systemd", expression, zone, start)
    assume(found)
    one, exported = found
    mine = ours(one, start)
    if calendar_fires(exported, start) != mine:
        offsets = {moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in [start, *mine]}
        assert len(offsets) > 1, "no clock change explains the difference"
        assert notes_of(exported, "clock changes")


@NEEDS_SYSTEMD
def test_the_notes_on_clock_changes_are_what_systemd_does() -> None:
    gap, repeat = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 25, 0, 10, tzinfo=UTC)
    fixed = export("systemd", cell("30 2 * * *", "Europe/Paris", start=gap))
    assert "a time that is skipped does not run" in notes_of(fixed, "clock changes")
    assert calendar_fires(fixed, gap, 1) == [datetime(2026, 3, 30, 0, 30, tzinfo=UTC)]
    assert calendar_fires(fixed, repeat, 2) == ours(cell("30 2 * * *", "Europe/Paris"), repeat)[:2]
    wild = export("systemd", cell("*/30 * * * *", "Europe/Paris", start=repeat))
    assert "nothing runs in the second pass" in notes_of(wild, "clock changes")
    assert [fire.hour for fire in calendar_fires(wild, repeat, 3)] == [0, 2, 2]
    assert not notes_of(export("systemd", cell("30 2 * * *", "Asia/Tokyo")), "clock changes")


@NEEDS_SYSTEMD
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    python = tmp_path / "bin of $HOME" / "python 100%"
    python.parent.mkdir()
    python.symlink_to("/bin/true")
    for schedule, rules in (("0 0 13 * 5", Rules()), ("90s", Rules(jitter="30s"))):
        odd = cell(schedule, "Europe/Paris", name='it\'s "100%" $HOME', notebook="/a b\\c%d.ipynb", python=str(python))
        exported = export("systemd", ExportedCell(**{**vars(odd), "rules": rules}))
        for name, text in exported.files.items():
            (tmp_path / name).write_text(text)
        paths = [str(tmp_path / name) for name in exported.files]
        done = run("systemd-analyze", "verify", "--man=no", *paths)
        assert str(tmp_path) not in done.stderr and "nbtasks-" not in done.stderr, done.stderr
    assert "OnUnitActiveSec=90000ms" in text and "RandomizedDelaySec=30000ms" in text
    assert not notes_of(exported, "not exported")


def test_a_service_runs_the_cell() -> None:
    exported = export("systemd", cell("0 8 * * 1-5", "Europe/Paris", notebook="/srv/my report.ipynb"))
    assert list(exported.files) == ["nbtasks-nightly.service", "nbtasks-nightly.timer"]
    service, timer = exported.files.values()
    assert 'ExecStart=/opt/venv/bin/python -m nbtasks run "/srv/my report.ipynb" --only nightly\n' in service
    assert "OnCalendar=Mon..Fri *-*-* 08:00:00 Europe/Paris\nPersistent=true\nAccuracySec=1ms\n" in timer
    local = export("systemd", cell("0 8 * * *", "local"))
    assert "OnCalendar=*-*-* 08:00:00\n" in text_of(local, ".timer")


# -- cron --------------------------------------------------------------------------------------------------------------


def crontab_job(line: str) -> Job:
    """A line of a crontab in the grammar of all crons: numbers, `*`, upward ranges, steps of these."""
    texts = line.split(maxsplit=5)[:5]
    limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    values = [
        frozenset().union(*(item_values(item, *limit) for item in text.split(",")))
        for text, limit in zip(texts, limits, strict=True)
    ]
    return Job(*values, texts=tuple(texts))  # type: ignore[arg-type]


def job_of(expression: str) -> Job:
    """A job for `@example`, of which only the text counts."""
    nothing: frozenset[int] = frozenset()
    return Job(nothing, nothing, nothing, nothing, nothing, texts=tuple(expression.split()))  # type: ignore[arg-type]


def item_values(item: str, low: int, high: int) -> set[int]:
    match = re.fullmatch(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", item)
    assert match is not None, item
    star, first, last, step = match.groups()
    assert star or last or not step, item
    start, end = (low, high) if star else (int(first), int(last or first))
    assert low <= start <= end <= high
    return set(range(start, end + 1, int(step or 1)))


def crontab_line(exported: Export) -> str:
    return text_of(exported, "crontab").splitlines()[-1]


@given(jobs())
@settings(max_examples=examples(40, 150), deadline=None)
@example(job_of("*/7,3 5 */3,2 * 1-3"))
@example(job_of("0-59 */24 1-31 * FRI"))
def test_the_line_of_a_crontab_has_the_same_values_and_rules(job: Job) -> None:
    found = exported_or_none("cron", job.expression)
    assume(found)
    one, exported = found
    written = crontab_job(crontab_line(exported))
    again = parse_schedule(" ".join(written.texts), "UTC")
    assert again.is_fixed == one.schedule.is_fixed == (not written.wild)
    assert (again.fields.minutes, again.fields.hours, again.fields.months) == tuple(
        tuple(sorted(values)) for values in (written.minutes, written.hours, written.months)
    )
    assert ours(one) == [fire.astimezone(UTC) for fire in next_fire_times(again, None, START, COUNT)]


@given(jobs(), st.sampled_from([datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)]))
@settings(max_examples=examples(20, 60), deadline=None)
def test_cronie_runs_the_line_at_our_times_in_the_machines_zone(job: Job, start: datetime) -> None:
    found = exported_or_none("cron", job.expression, "Europe/Paris", start)
    assume(found)
    one, exported = found
    written = crontab_job(crontab_line(exported))
    theirs = fires(written, "Europe/Paris", start, timedelta(days=2))
    mine = [fire for fire in next_fire_times(one.schedule, None, start, 4000) if fire < start + timedelta(days=2)]
    assert theirs == [fire.astimezone(UTC) for fire in mine]


@NEEDS_CRON
@pytest.mark.parametrize("schedule", ["0 8 * * 1-5", "*/7,3 5 */3,2 * 1-3", "0-59 */24 13 2 0,6", "5m", "12h", "1w"])
def test_the_real_crontab_takes_it(schedule: str, tmp_path: Path) -> None:
    exported = export("cron", cell(schedule, "Europe/Paris", name="100% it's", notebook="/srv/100% ready/report.ipynb"))
    path = tmp_path / "crontab"
    path.write_text(text_of(exported, "crontab"))
    usage = run("crontab", "-h")
    check = "-n" if "-n" in re.findall(r"-\w", usage.stdout + usage.stderr) else "-T"  # Debian's, cronie's
    checked = run("crontab", check, str(path))
    assert checked.returncode == 0, checked.stderr
    path.write_text("61 * * * * true\n")
    assert run("crontab", check, str(path)).returncode != 0


def test_a_command_survives_cron_and_the_shell() -> None:
    odd = cell("0 8 * * *", name="it's 100%", notebook="/srv/50% off; $(rm)/a 'b'.ipynb", python="/bin/echo")
    command = crontab_line(export("cron", odd)).split(maxsplit=5)[5]
    assert not re.search(r"(?<!\\)%", command)
    passed_on = command.replace(r"\%", "%")  # what cron hands to the shell
    assert shlex.split(passed_on) == odd.command
    for wrong in ({"notebook": "/srv/a\nb.ipynb"}, {"notebook": "/srv/a\\b.ipynb"}, {"notebook": f"/{'a' * 1000}"}):
        with pytest.raises(InvalidValueError, match=r"cron|cannot be exported"):
            export("cron", cell("0 8 * * *", **wrong))


def test_cron_says_its_zone() -> None:
    exported = export("cron", cell("0 8 * * *", "Europe/Paris"))
    assert "\nCRON_TZ=Europe/Paris\n0 8 * * * /opt" in text_of(exported, "crontab")
    assert "Debian and Ubuntu ignores it" in notes_of(exported, "time zone")
    assert "runs twice" in notes_of(exported, "clock changes")
    local = export("cron", cell("0 8 * * *", "local"))
    assert "CRON_TZ" not in str(local) and not notes_of(local, "clock changes")


# -- jupyter-scheduler and Airflow: expressions that croniter reads ----------------------------------------------------


def croniter_expression(target: str, exported: Export) -> str:
    if target == "jupyter-scheduler":
        return str(json.loads(text_of(exported, ".json"))["schedule"])
    [expression] = re.findall(r"CronTriggerTimetable\('(.*?)', timezone='UTC'\)", text_of(exported, ".py"))
    return str(expression)


@pytest.mark.parametrize("target", ["jupyter-scheduler", "airflow"])
@given(expression=expressions())
@settings(max_examples=examples(25, 80), deadline=None)
@example(expression="0 8 L,15 * *")
@example(expression="0 8 * * 5L,1#2")
@example(expression="0 8 */2 * 1#2")
@example(expression="0 8 1-31 * 1")
@example(expression="0 8 L * 1")
def test_croniter_reads_our_times(target: str, expression: str) -> None:
    found = exported_or_none(target, expression)
    assume(found)
    one, exported = found
    iterator = croniter(croniter_expression(target, exported), START)
    assert [iterator.get_next(datetime) for _ in range(COUNT)] == ours(one)


def test_the_dag_of_an_interval_and_of_an_end() -> None:
    dag = text_of(export("airflow", cell("90m")), ".py")
    compile(dag, "dag", "exec")
    assert "schedule=timedelta(seconds=5400.0)" in dag and "start_date=pendulum.parse('2026-11-30T09:17:00" in dag
    until = Rules(until=datetime(2027, 1, 1, tzinfo=UTC))
    exported = export("airflow", cell("0 8 * * *", rules=until, name='"""\\'))
    compile(text_of(exported, ".py"), "dag", "exec")
    assert "end_date=pendulum.parse('2027-01-01T00:00:00+00:00')" in str(exported)
    assert not notes_of(exported, "not exported")
    assert "until=2027" in notes_of(export("cron", cell("0 8 * * *", rules=until)), "not exported")


# -- GitHub Actions ----------------------------------------------------------------------------------------------------


def workflow(exported: Export) -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml")
    loaded: dict[Any, Any] = yaml.safe_load(text_of(exported, ".yml"))
    return loaded


def test_a_workflow() -> None:
    one = cell("H 8 * * 1-5", "Europe/Paris", name="it's: #1 \U0001f600", repository="/srv")
    exported = export("github-actions", one)
    loaded = workflow(exported)
    assert loaded["name"] == "nbtasks-it-s-1"
    on = loaded[True]  # YAML 1.1 reads the key `on` so
    [schedule] = on["schedule"]
    assert schedule == {"cron": f"{one.schedule.fields.minutes[0]} 8 * * 1-5", "timezone": "Europe/Paris"}
    assert on["workflow_dispatch"] is None
    steps = loaded["jobs"]["run"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    command = shlex.split(next(step["run"] for step in steps if "nbtasks run" in step.get("run", "")))
    assert command == ["python", "-m", "nbtasks", "run", "reports/report.ipynb", "--only", "it's: #1 \U0001f600"]
    assert notes_of(exported, "H and R") and not notes_of(exported, "path")
    assert notes_of(export("github-actions", cell("0 8 * * *")), "path")
    with pytest.raises(InvalidValueError, match="expression"):
        export("github-actions", cell("0 8 * * *", name="${{ secrets.TOKEN }}"))


@given(jobs())
@settings(max_examples=examples(25, 80), deadline=None)
@example(job_of("58 23 * * *"))
def test_a_workflow_has_our_times_at_least_five_minutes_apart(job: Job) -> None:
    found = exported_or_none("github-actions", job.expression)
    assume(found)
    one, exported = found
    [schedule] = workflow(exported)[True]["schedule"]
    assert "timezone" not in schedule
    crontab_job(f"{schedule['cron']} command")
    mine = ours(one)
    assert [fire.astimezone(UTC) for fire in next_fire_times(schedule["cron"], "UTC", START, COUNT)] == mine
    assert all(later - earlier >= timedelta(minutes=5) for earlier, later in pairwise(mine))


@pytest.mark.parametrize("expression", ["* * * * *", "*/4 * * * *", "0,3 8 * * *", "0,59 0,23 * * *", "*/30 0 8 * * *"])
def test_runs_closer_than_five_minutes_are_refused(expression: str) -> None:
    with pytest.raises(InvalidScheduleError, match="at least 5"):
        export("github-actions", cell(expression))


# -- intervals, rules, errors ------------------------------------------------------------------------------------------

INTERVALS = ["1m", "5m", "12m", "30m", "1h", "2h", "12h", "1d", "1w"]


@pytest.mark.parametrize(
    ("every", "target"),
    [
        (every, target)
        for target in ("cron", "jupyter-scheduler", "github-actions")
        for every in INTERVALS
        if (every, target) != ("1m", "github-actions")
    ],
)
def test_an_interval_keeps_its_phase(every: str, target: str) -> None:
    start = datetime(2026, 11, 30, 22, 48, tzinfo=UTC)
    one = cell(every, "UTC", start=start)
    exported = export(target, one)
    if target == "cron":
        expression = " ".join(crontab_line(exported).split(maxsplit=5)[:5])
        zone: Any = LOCAL
    elif target == "github-actions":
        expression, zone = workflow(exported)[True]["schedule"][0]["cron"], "UTC"
    else:
        expression, zone = croniter_expression(target, exported), json.loads(text_of(exported, ".json"))["timezone"]
    theirs = next_fire_times(expression, zone, start, COUNT)
    assert [fire.astimezone(UTC) for fire in theirs] == ours(one, start)
    assert notes_of(exported, "interval")


@pytest.mark.parametrize("every", ["30s", "7m", "90m", "5h", "2d", "90s"])
def test_other_intervals_are_refused_with_a_target_that_has_them(every: str) -> None:
    for target in ("cron", "jupyter-scheduler", "github-actions"):
        with pytest.raises(InvalidScheduleError, match=r"interval.*use --to systemd"):
            export(target, cell(every))
    assert "OnUnitActiveSec" in str(export("systemd", cell(every)))


@pytest.mark.parametrize("target", TARGETS)
def test_every_export_tells_what_changes(target: str) -> None:
    one = cell("0 8 * * *", "Europe/Paris", rules=Rules(max_runs=3, max_concurrent=2))
    exported = export(target, one)
    for kind in ("missed runs", "overlap", "names", "notebook", "here the schedule stays on", "not exported: "):
        assert notes_of(exported, kind), kind
    left_out = notes_of(exported, "not exported")
    assert "max_concurrent=2" in left_out and "max_runs=3" in left_out
    assert str(exported).count("\n--- ") + 1 == len(exported.files)
    with pytest.raises(InvalidScheduleError, match="only_if"):
        export(target, cell("0 8 * * *", rules=Rules(only_if=business_hours)))


def test_what_cannot_be_exported_says_why() -> None:
    with pytest.raises(InvalidValueError, match="did you mean 'systemd'"):
        export("systmd", cell("0 8 * * *"))
    with pytest.raises(InvalidScheduleError, match="L, W and #; use --to systemd"):
        export("cron", cell("0 8 15W * *"))
    with pytest.raises(InvalidScheduleError, match="second 0 of a minute only; use --to systemd"):
        export("cron", cell("30 0 8 * * *"))
    with pytest.raises(InvalidScheduleError, match=r"leap year.*; keep it in nbtasks"):
        export("systemd", cell("0 8 28W * *"))
    with pytest.raises(InvalidScheduleError, match=r"both.*use --to cron"):
        export("airflow", cell("0 8 */2 * 1"))
    offset = timezone(timedelta(hours=2))
    one = cell("0 8 * * *")
    schedule = parse_schedule("0 8 * * *", offset)
    unnamed = ExportedCell(**{**vars(one), "schedule": schedule, "zone": offset, "zone_name": None})
    for target in TARGETS:
        with pytest.raises(InvalidScheduleError, match="time zone has no name"):
            export(target, unnamed)
    assert zone_name(offset) == "UTC+02:00"
