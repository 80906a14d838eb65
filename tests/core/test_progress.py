"""Progress: what values mean, who moves it, and that it never fails the work."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from typing import Any

import pytest

import nbtasks
from nbtasks import Task, TaskManager, current_task, track
from nbtasks import exceptions as errors
from nbtasks.tqdm_progress import tqdm_patches


def set_to(value: Any) -> Any:
    def work(task: Task) -> float | None:
        task.progress = value
        return task.progress

    return work


@pytest.mark.parametrize(
    ("given", "read"),
    [
        *((40, 40.0), (0, 0.0), (100, 100.0), (0.25, 0.25), (Fraction(1, 2), 0.5)),
        *((-1, None), (math.nan, None), (None, None)),
    ],
)
def test_progress_is_a_float_from_0_to_100_or_unknown(manager: TaskManager, given: Any, read: float | None) -> None:
    seen = manager.create_task("t", set_to(given)).wait(30)
    assert seen == read and type(seen) in (float, type(None))


@pytest.mark.parametrize(("given", "read"), [(400, 100.0), (-7, 0.0), (math.inf, 100.0)])
def test_progress_out_of_range_is_clamped_with_one_warning(manager: TaskManager, given: float, read: float) -> None:
    seen: list[Any] = []

    def work(task: Task) -> float | None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(100):
                task.progress = given
        seen.extend(caught)
        return task.progress

    assert manager.create_task("far", work).wait(30) == read
    assert [str(one.message) for one in seen] == [f"progress {given!r} of 'far' is not from 0 to 100: clamped"]
    assert seen[0].filename == __file__


def test_where_warnings_are_errors_progress_out_of_range_does_not_fail_the_work(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    assert manager.create_task("t", set_to(400)).wait(30) == 100.0
    assert "progress 400 of 't' is not from 0 to 100: clamped" in caplog.text


@pytest.mark.parametrize("value", ["half", "50", b"50", True, [50], object, 1j])
def test_what_is_not_a_number_is_a_named_error_and_changes_nothing(manager: TaskManager, value: Any) -> None:
    def work(task: Task) -> float | None:
        task.progress = 30
        with pytest.raises(errors.ProgressError, match="progress must be a number from 0 to 100") as caught:
            task.progress = value
        assert repr(value) in str(caught.value)
        return task.progress

    assert manager.create_task("t", work).wait(30) == 30.0


def test_a_completed_task_is_at_100_and_others_where_they_stopped(manager: TaskManager) -> None:
    def fails(task: Task) -> None:
        task.progress = 30
        raise ValueError

    done, failed = manager.create_task("done", set_to(10)), manager.create_task("failed", fails)
    manager.wait(timeout=30)
    assert (done.progress, failed.progress) == (100.0, 30.0)
    failed.progress = 50
    assert failed.progress == 30.0  # it is over


def test_the_manager_sets_progress_and_body_from_outside(manager: TaskManager) -> None:
    manager.resize_lane("single", 0)
    task = manager.create_task("t", lambda: 1, lane="single")
    assert manager.update_progress(task.id, 40, "two of five") is True
    assert (task.progress, task.body) == (40.0, "two of five")
    assert manager.update_progress(task, None) is True and (task.progress, task.body) == (None, "two of five")
    with pytest.raises(errors.ProgressError, match="'half'"):
        manager.update_progress(task, "half")  # type: ignore[arg-type]
    task.cancel()
    assert manager.update_progress(task, 50) is False and manager.update_progress("unknown", 50) is False


# -- track --------------------------------------------------------------------------------------------------------


def test_track_drives_the_progress_of_the_current_task(manager: TaskManager) -> None:
    seen: list[float | None] = []

    def work() -> None:
        for _ in track(range(4)):
            seen.append(current_task().progress)

    manager.create_task("tracked", work).wait(30)
    assert seen[0] == 0.0 and seen == sorted(seen)


def test_the_outermost_track_drives_and_nested_ones_do_not(manager: TaskManager) -> None:
    def work(task: Task) -> list[float | None]:
        seen = []
        for _ in track(range(2)):
            for _ in track(range(3)):
                pass
            seen.append(task.progress)
        return seen

    assert manager.create_task("t", work).wait(30) == [0.0, 50.0]


def test_one_track_after_another_each_drive(manager: TaskManager) -> None:
    def work(task: Task) -> list[float | None]:
        list(track("ab"))
        first = task.progress
        for _ in track("cd"):
            return [first, task.progress]
        return []

    assert manager.create_task("t", work).wait(30) == [100.0, 0.0]


async def test_track_takes_async_iterables(manager: TaskManager) -> None:
    async def items() -> AsyncIterator[int]:
        for number in range(2):
            yield number

    async def work(task: Task) -> list[tuple[int, float | None]]:
        return [(item, task.progress) async for item in track(items(), total=2)]

    assert await manager.create_task("t", work) == [(0, 0.0), (1, 50.0)]


def test_a_track_of_unknown_length_leaves_progress_unknown(manager: TaskManager) -> None:
    def work(task: Task) -> float | None:
        list(track(iter("abc")))
        return task.progress

    assert manager.create_task("t", work).wait(30) is None


def test_a_total_that_is_too_small_does_not_lead_past_the_end(manager: TaskManager) -> None:
    def work(task: Task) -> float | None:
        list(track(range(100), total=10))
        return task.progress

    assert manager.create_task("t", work).wait(30) == 100.0


def test_track_drives_a_task_that_is_named(manager: TaskManager) -> None:
    manager.resize_lane("single", 0)
    other = manager.create_task("other", lambda: 1, lane="single")
    for _ in track(range(2), task=other):
        assert other.progress == 0.0
        break
    list(track(range(2), task=other))
    assert other.progress == 100.0


async def test_outside_tasks_track_of_an_async_iterable_only_iterates() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert current_task() is None
    assert [item async for item in track(items())] == [1, 2]


def test_outside_tasks_track_only_iterates() -> None:
    assert current_task() is None
    assert list(nbtasks.track([1, 2])) == [1, 2] and len(track("abc")) == 3
    with pytest.raises(TypeError, match="number of items is not known"):
        len(track(iter("abc")))
    with pytest.raises(errors.WorkError, match="5 is not iterable"):
        track(5)  # type: ignore[arg-type, var-annotated]


# -- the bars of tqdm ---------------------------------------------------------------------------------------------


@pytest.fixture
def bridged() -> Iterator[None]:
    patches = tqdm_patches()
    patches.apply()
    yield
    patches.revert()


@pytest.mark.usefixtures("bridged")
def test_a_bar_of_tqdm_drives_the_task_and_nested_ones_do_not(manager: TaskManager) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    out = io.StringIO()

    def work(task: Task) -> list[float | None]:
        seen = []
        for _ in tqdm(range(4), file=out, mininterval=0):
            for _ in tqdm(range(2), file=out, mininterval=0):
                pass
            seen.append(task.progress)
        with tqdm(total=10, file=out, mininterval=0) as bar:
            bar.update(3)
            seen.append(task.progress)
        return seen

    assert manager.create_task("t", work).wait(30) == [0.0, 25.0, 50.0, 75.0, 30.0]
    assert "4/4" in out.getvalue()


@pytest.mark.usefixtures("bridged")
def test_bars_without_a_total_or_outside_tasks_or_disabled_ones_drive_nothing(manager: TaskManager) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    out = io.StringIO()

    def work(task: Task) -> float | None:
        list(tqdm(iter("abc"), file=out, mininterval=0))
        list(tqdm(range(3), disable=True))
        return task.progress

    assert manager.create_task("t", work).wait(30) is None
    assert list(tqdm(range(2), file=out, mininterval=0)) == [0, 1]


def test_reverted_patches_leave_tqdm_as_it_was() -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    before = dict(vars(tqdm))
    patches = tqdm_patches()
    patches.apply()
    assert vars(tqdm)["refresh"] is not before["refresh"]
    patches.revert()
    assert dict(vars(tqdm)) == before
