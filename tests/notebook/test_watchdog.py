"""The watchdog of programs, where it starts after the end of the kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nbtasks.notebook import watchdog

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


def test_a_watchdog_that_starts_after_the_end_of_its_parent_ends_the_programs() -> None:
    with subprocess.Popen(["sleep", "600"], process_group=0) as program:
        no_parent = str(os.getpid() + 1)
        command = [sys.executable, "-I", "-S", watchdog.__file__, no_parent]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
            assert started.stdin is not None
            os.write(started.stdin.fileno(), b"%d\n" % program.pid)  # and the pipe stays open
            started.wait(20)
            assert program.wait(1) < 0
