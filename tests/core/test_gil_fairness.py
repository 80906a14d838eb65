"""Pauses of a busy event loop, in which other threads run."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from nbtasks import TaskManager, gil_fairness
from nbtasks.gil_fairness import GilYielder, yielding_gil


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses so far, in seconds."""
    taken: list[float] = []
    clocks = {"monotonic": time.monotonic, "thread_time": time.thread_time}
    monkeypatch.setattr(gil_fairness, "time", SimpleNamespace(sleep=taken.append, **clocks))
    return taken


@pytest.fixture
def undisturbed(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes while other processes have the processor: on a busy machine no loop is busy."""
    monkeypatch.setattr(gil_fairness.time, "monotonic", time.thread_time)


@pytest.mark.usefixtures("undisturbed")
def test_a_busy_loop_pauses_while_the_context_is_entered(pauses: list[float]) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with yielding_gil(loop), yielding_gil(loop):
            while len(pauses) < 3:
                sum(range(1_000))
                await asyncio.sleep(0)
        taken = len(pauses)
        while yielding_gil(loop).is_checking:
            sum(range(1_000))
            await asyncio.sleep(0)
        return taken

    assert asyncio.run(main()) == len(pauses) == 3 and set(pauses) == {gil_fairness.YIELD_SECONDS}


def test_a_loop_that_is_not_busy_does_not_pause(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gil_fairness, "_IDLE_SECONDS", 0.01)
    monkeypatch.setattr(gil_fairness.time, "thread_time", lambda: 0.0)  # a garbage collection is work, too
    checks = 0

    class Counted(GilYielder):
        def _check(self) -> None:
            nonlocal checks
            checks += 1
            super()._check()

    async def main() -> None:
        with Counted(asyncio.get_running_loop()):
            while checks < 5:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert pauses == []


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("backend", ["loop", "thread"])
def test_a_task_that_keeps_its_loop_busy_pauses(
    manager: TaskManager, pauses: list[float], backend: str
) -> None:
    async def work() -> None:
        while not pauses:
            sum(range(1_000))
            await asyncio.sleep(0)

    manager.create_task("busy", work, backend=backend).wait(60)


def test_a_loop_that_gets_little_of_a_core_since_others_compute_pauses(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gil_fairness.time, "monotonic", lambda: time.thread_time() * 13)  # as at a load of 26

    async def main() -> None:
        with yielding_gil(asyncio.get_running_loop()):
            while not pauses:
                sum(range(1_000))
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert pauses
