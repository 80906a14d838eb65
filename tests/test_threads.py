"""What our threads leave behind in the interpreter: nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROFILE_AFTER = """
import cProfile, threading
from nbtasks.threads import Gate, TaskInterrupt
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
