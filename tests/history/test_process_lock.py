"""File locks that tell whether a process is still running."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks.history.process_lock import ProcessLock, is_alive

ENDED = 2**22 + 1
"""Above the largest process id of Linux."""
HOLDER = """
import sys
from pathlib import Path
from nbtasks.history.process_lock import ProcessLock

lock = ProcessLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_process_that_holds_its_lock_is_alive_until_it_is_killed(tmp_path):
    path = tmp_path / "locks" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            assert is_alive(path, ENDED)  # whatever the id says: it may be that of another container
            with pytest.raises(OSError, match=r"\[Errno"):
                ProcessLock(path)
        finally:
            holder.kill()
        holder.wait()
    assert path.exists() and not is_alive(path, holder.pid)


def test_a_lock_that_was_released_leaves_no_file_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "locks" / "one"
    lock = ProcessLock(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lock.release()
    assert not path.exists()
    ProcessLock(path).release()


def test_without_a_file_the_process_id_tells(tmp_path):
    absent = tmp_path / "absent"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(absent, process.pid)
        process.communicate(b"\n")
    assert not is_alive(absent, process.pid)


def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch):
    def refused(pid: int, signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.kill", refused)
    assert is_alive(Path(tmp_path / "absent"), 1)
