"""A process that uses the values of parcels and sends them back."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbtasks.workers.serialization import pack, unpack

_SERVE = f"""
import pickle, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from nbtasks.workers.serialization import pack, unpack
while True:
    parcel, code = pickle.load(sys.stdin.buffer)
    names = {{}}
    try:
        names["it"] = unpack(parcel)
        exec(code, names)
        reply = pack((names["it"], names.get("found"), None))
        del names
    except Exception as error:
        reply = pack((None, None, f"{{type(error).__name__}}: {{error}}"))
    pickle.dump([bytes(one) for one in reply], sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class OtherProcess:
    """Runs code on values that are sent to it."""

    def __init__(self, program: subprocess.Popen[bytes]) -> None:
        self._program = program

    def send(self, value: Any, code: str) -> None:
        """Run code there, in which `it` is the value; it may bind `found`."""
        assert self._program.stdin is not None
        pickle.dump(([bytes(one) for one in pack(value)], code), self._program.stdin)
        self._program.stdin.flush()

    def receive(self) -> tuple[Any, Any]:
        """The value as it comes back, and what was found. Raises RuntimeError with the error there."""
        assert self._program.stdout is not None
        value, found, error = unpack(pickle.load(self._program.stdout))
        if error is not None:
            raise RuntimeError(error)
        return value, found

    def use(self, value: Any, code: str) -> tuple[Any, Any]:
        """Send and receive."""
        self.send(value, code)
        return self.receive()


@contextmanager
def other_process() -> Iterator[OtherProcess]:
    """Start one, and end it."""
    with subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            yield OtherProcess(program)
        finally:
            program.kill()
