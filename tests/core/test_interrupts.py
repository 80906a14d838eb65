"""Where interrupts strike in our threads, and what they leave behind in the interpreter: nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nbtasks import interrupts as threads
from nbtasks.interrupts import Gate, TaskInterrupt, run_in_own_loop

ROOT = Path(__file__).parent.parent.parent

PROFILE_AFTER = """
import cProfile, threading
from nbtasks.interrupts import Gate, TaskInterrupt
def work(gate, strike):
    gate.enter("work")
    if strike:
        gate.strike("work")
def profiled(strike):
    gate = Gate()
    try:
        work(gate, strike)
    except TaskInterrupt:
        print("struck")
    gate.leave()
    cProfile.Profile().runctx("f()", {"f": lambda: None}, {})
    print("profiled")
thread = threading.Thread(target=profiled, args=(STRIKE,))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("strike", [False, True])
def test_a_profiler_ends_after_a_thread_has_shut_its_gate(strike: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROFILE_AFTER.replace("STRIKE", str(strike))],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
    )
    assert done.stdout.split() == (["struck"] if strike else []) + ["profiled"]


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_an_interrupt_on_its_way_strikes_before_the_loop_of_a_coroutine_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of asyncio's own affairs it would be logged there, and lost."""
    raise_in, under_way, began = threads._raise_in, threading.Event(), threading.Event()

    def raise_late(thread_id: int, exception: type[BaseException]) -> None:
        if not under_way.is_set():
            under_way.set()
            began.wait(0.5)  # in vain, for the coroutine is not to begin
        raise_in(thread_id, exception)

    monkeypatch.setattr(threads, "_raise_in", raise_late)
    outcomes: list[object] = []

    async def work() -> None:
        began.set()

    def worker() -> None:
        gate = Gate()
        try:
            gate.enter("work")
            striker = threading.Thread(target=gate.strike, args=("work",))
            striker.start()
            under_way.wait(30)
            run_in_own_loop(work())
        except TaskInterrupt:
            outcomes.append("interrupted")
        gate.leave()
        striker.join()

    in_thread(worker)
    assert outcomes == ["interrupted"] and not began.is_set()


def test_a_loop_that_is_stuck_is_struck_and_no_other_that_came_after_it() -> None:
    outcomes: list[object] = []

    def worker() -> None:
        gate = Gate()
        gate.enter("work")
        stuck = gate.instead = threads._Canceller(gate)
        try:
            assert gate.insist(stuck)
            threads._checkpoint()
        except TaskInterrupt:
            outcomes.append("struck")
        gate.instead = threads._Canceller(gate)
        outcomes.append(gate.insist(stuck))
        threads._checkpoint()
        gate.leave()

    in_thread(worker)
    assert outcomes == ["struck", False]
