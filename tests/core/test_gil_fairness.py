"""A busy loop lets other threads have the interpreter now and then; one with time to spare is left alone."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from nbtasks import TaskManager
from nbtasks import gil_fairness as breath
from nbtasks.gil_fairness import breathing


@pytest.fixture
def breaths(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those that were taken, in seconds."""
    taken: list[float] = []
    clocks = {"monotonic": time.monotonic, "thread_time": time.thread_time}
    monkeypatch.setattr(breath, "time", SimpleNamespace(sleep=taken.append, **clocks))
    return taken


def test_a_busy_loop_breathes_as_long_as_it_is_asked_to(breaths: list[float]) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with breathing(loop), breathing(loop):
            while len(breaths) < 3:
                sum(range(1_000))
                await asyncio.sleep(0)
        taken = len(breaths)
        while breathing(loop)._looks:
            sum(range(1_000))
            await asyncio.sleep(0)
        return taken

    assert asyncio.run(main()) == len(breaths) == 3 and set(breaths) == {breath.BREATH_SECONDS}


def test_a_loop_with_time_to_spare_does_not(breaths: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breath, "_IDLE_SECONDS", 0.01)
    looks = 0

    class Breather(breath.Breather):
        def _look(self) -> None:
            nonlocal looks
            looks += 1
            super()._look()

    async def main() -> None:
        with Breather(asyncio.get_running_loop()):
            while looks < 5:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert breaths == []


@pytest.mark.parametrize("backend", ["loop", "thread"])
def test_tasks_that_turn_their_loop_without_a_pause_breathe(
    manager: TaskManager, breaths: list[float], backend: str
) -> None:
    async def work() -> None:
        while not breaths:
            sum(range(1_000))
            await asyncio.sleep(0)

    manager.create_task("turns", work, backend=backend).wait(60)
