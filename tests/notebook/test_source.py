"""What a cell's text tells of the names that it binds."""

from __future__ import annotations

import math
import os
import os.path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbtasks.notebook.cells.source import CellSource


@pytest.fixture(scope="module")
def shell() -> InteractiveShell:
    return InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\nfor i in y: pass", {"x", "i"}),
        ("%time x = 1", {"x"}),
        ("def f():\n    global x\n    x = 1", {"f", "x"}),
        ("import math", set()),
        ("import math as m", {"m"}),
        ("import os.path", set()),
        ("import os.path as path", set()),
        ("from math import pi", set()),
        ("from math import e as pi", {"pi"}),
        ("from math import *", set()),
        ("import json", {"json"}),
        ("import math\nmath = 1", {"math"}),
        ("try: import math\nexcept ImportError: math = None", {"math"}),
        ("if x: from math import pi\nelse: from numpy import pi", {"pi"}),
        ("import math\ndef f():\n    global math\n    math = None", {"f", "math"}),
        ("from . import math", {"math"}),
        ("def f():\n    import math", {"f"}),
        ("%matplotlib inline\nimport math", set()),
        ("import math\n%time math = 1", {"math"}),
    ],
)
def test_the_names_that_a_cell_binds_to_other_values(shell: InteractiveShell, source: str, expected: set[str]) -> None:
    names: dict[str, Any] = {"math": math, "os": os, "path": os.path, "pi": math.pi, "x": 0, "y": ()}
    assert CellSource(shell, source, 1).rebinds(names) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", set()),
        ("def f():\n    global x\n    x = 1", {"x"}),
        ("class C:\n    def m(self):\n        def g():\n            global x\n            x = 1", {"x"}),
        ("def f():\n    global x\n    return x", set()),
        ("%time f = lambda: 1", set()),
    ],
)
def test_the_names_that_functions_of_a_cell_bind(shell: InteractiveShell, source: str, expected: set[str]) -> None:
    assert CellSource(shell, source, 1).binds_later == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = evaluate(exec_it.eval)", False),
        ("%time x = 1", False),
        ("from math import *", True),
        ("exec('x = 1')", True),
        ("def f(): return globals()", True),
        ("%run script.py", True),
        ("%time exec('x = 1')", True),
    ],
)
def test_whether_a_cell_may_bind_names_that_its_text_does_not_have(
    shell: InteractiveShell, source: str, expected: bool
) -> None:
    assert CellSource(shell, source, 1).binds_any is expected
