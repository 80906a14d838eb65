"""Costs of imports in a kernel that has imported ipykernel and ipywidgets.

Each import is the first of a new process. CPU time, which other work on the machine changes least.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.rows import Row, in_turns

_PROGRAM = """
import ipykernel.ipkernel, ipykernel.kernelapp, ipykernel.zmqshell, ipywidgets, time
start = time.process_time()
import {module}
print(time.process_time() - start)
"""


def import_of_nbtasks() -> Iterator[Row]:
    """`import nbtasks` and what `%load_ext nbtasks` imports, beside `import tqdm.auto`."""
    for module in ("nbtasks", "nbtasks.notebook.extension"):
        _milliseconds(module)  # the first import of a fresh checkout compiles; an installed package was compiled by pip
    for module, target in (("nbtasks", 1.0), ("nbtasks.notebook.extension", None)):
        yield Row(
            f"import {module} (CPU)",
            *in_turns(partial(_milliseconds, module), partial(_milliseconds, "tqdm.auto")),
            beside="tqdm.auto",
            unit="ms",
            at_most=target,
        )


def _milliseconds(module: str) -> float:
    program = _PROGRAM.format(module=module)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return 1e3 * float(done.stdout)


ROWS = [import_of_nbtasks]
