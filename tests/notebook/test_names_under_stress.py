"""Stress test of names: 100,000 background cells on several threads.

The cells define functions, classes and generators, and start threads, under garbage collection.
No value may be wrong, nothing may crash, and memory does not grow after the first tenth.
"""

from __future__ import annotations

import builtins
import contextvars
import faulthandler
import gc
import itertools
import os
import random
import sys
import threading
import time
import traceback
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbtasks.notebook.cells.cell_globals import ExactGlobals, LayeredGlobals
from nbtasks.notebook.cells.namespace import NotebookNames
from nbtasks.notebook.cells.object_layout import is_supported
from nbtasks.notebook.patches.main_module import use_names

CELLS = 100_000
WORKERS = 3
NAMES_OF_EACH = 7
"""Each worker binds this many names again and again, so that what is bound is replaced, too."""

# `§` is a number. Each cell checks its own names against its own snapshot.
SOURCES = (
    "y§ = k + len(items)",
    "def f§(n): return n + k + len(items)\nassert f§(1) == 1 + k + len(items)",
    """
class C§:
    def method(self, n): return n + k
    @staticmethod
    def static(): return len(items)
    @property
    def value(self): return k
c§ = C§()
assert c§.method(1) == 1 + k
""",
    """
def generator§(n):
    try:
        for i in range(n): yield k
    finally: closed.append(k)
g§ = generator§(5); next(g§)
""",
    """
import functools
cached§ = functools.lru_cache(None)(lambda n, k_now: n + k)
p§ = functools.partial(lambda n: n + k, 1)
registry§ = {'a': lambda: k, 'b': [lambda: len(items)]}
assert p§() == k + 1
""",
    """
import threading
def work§():
    for _ in range(3): assert len(items) == 2 and k >= 0
t§ = threading.Thread(target=work§); t§.start()
""",
    "def setter§(value):\n    global late§\n    late§ = value\nhooks§ = [setter§]",
    """
def outer§():
    x = 1
    def inner(): return x + k
    return inner
inner§ = outer§()
cycle§ = [inner§]; cycle§.append(cycle§)
""",
    """
class Node§:
    def __init__(self):
        self.me, self.generator = self, self.run()
        next(self.generator)
    def run(self):
        try:
            while True: yield k
        finally: closed.append(k)
    def __del__(self): closed.append(len(items))
Node§()
""",
    """
def fail§(): return 1 / (k - k)
try: fail§()
except ZeroDivisionError as error: e§ = error
""",
    "async def co§(): return k\nco§().close()\nasync def a§(): yield k\nag§ = a§()",
    "k = k\ndef reader§(): return k\nkeep§ = [reader§]\nassert reader§() == k",
    "assert all(c.method(1) == 1 + k for n, c in list(globals().items()) if n[0] == 'c' and n[1:].isdigit())",
    """
import threading
stop§ = threading.Event()
def spin():
    while not stop§.wait(0.01): len(items) + k
threading.Thread(target=spin).start()
del spin
""",
    "if 'stop§' in globals(): stop§.set()",
)
BINDS = {index: ("k",) for index, source in enumerate(SOURCES) if source.startswith("k =")}
BINDS_ANY = {index for index, source in enumerate(SOURCES) if "globals()" in source}


class Notebook:
    """Background cells on several threads, and a foreground that uses their names."""

    def __init__(self, kind: type, cells: int) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "k": 5, "items": [1, 2]}
        self.names["closed"] = []
        self.notebook_names = NotebookNames(self.names, kind(self.names))
        self.errors: Counter[str] = Counter()
        self.memory: dict[int, float] = {}
        self._cells = cells
        self._numbers = iter(range(cells))
        self._numbers_lock = threading.Lock()

    def run(self) -> None:
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        for turn in itertools.takewhile(lambda _: any(w.is_alive() for w in workers), itertools.count()):
            self._foreground(turn)
            time.sleep(0.02)
        for value in list(self.names.values()):
            if isinstance(value, threading.Event):
                value.set()

    def _work(self, worker: int) -> None:
        chance = random.Random(worker)
        while True:
            with self._numbers_lock:
                number = next(self._numbers, None)
            if number is None:
                return
            kind = chance.randrange(len(SOURCES))
            source = SOURCES[kind].replace("§", str(NAMES_OF_EACH * worker + number % NAMES_OF_EACH))
            contextvars.copy_context().run(self._cell, kind, source)
            if number % (self._cells // 100) == 0:
                self.memory[number] = memory()

    def _cell(self, kind: int, source: str) -> None:
        cell = self.notebook_names.open(binds=BINDS.get(kind, ()), binds_any=kind in BINDS_ANY)
        use_names(cell.scope)
        completed = False
        try:
            exec(compile(source, "<cell>", "exec", dont_inherit=True), cell.globals)
            completed = True
        except Exception:
            self.errors[traceback.format_exc()] += 1
        self.notebook_names.end(cell, commit=completed)

    def _foreground(self, turn: int) -> None:
        self.notebook_names.foreground_began(turn)
        try:
            self.names["k"] = turn % 1000
            del self.names["closed"][:]
            for name, value in list(self.names.items()):
                self._use(name.rstrip("0123456789"), value, turn % 1000)
        except Exception:
            self.errors[traceback.format_exc()] += 1
        self.notebook_names.foreground_ended()
        if turn % 20 == 0:
            gc.collect()

    def _use(self, kind: str, value: Any, k: int) -> None:
        if kind == "f":
            assert value(1) == 1 + k + 2
        elif kind == "c":
            assert value.method(1) == 1 + k and value.static() == 2 and value.value == k
        elif kind == "g" and isinstance(value, types.GeneratorType):
            assert next(value, k) == k
        elif kind == "cached":
            assert value(1, k) == 1 + k
        elif kind == "p":
            assert value() == 1 + k
        elif kind == "registry":
            assert value["a"]() == k and value["b"][0]() == 2
        elif kind == "hooks":
            value[0](k)
        elif kind == "inner":
            assert value() == 1 + k
        elif kind == "reader":
            assert value() == k
        elif kind == "keep":
            assert value[0]() == k


def memory() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def run_cells(kind: type, cells: int) -> Notebook:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-3)
    faulthandler.enable()
    notebook = Notebook(kind, cells)
    try:
        notebook.run()
    finally:
        sys.setswitchinterval(interval)
    return notebook


@pytest.mark.skipif(not is_supported(), reason="no plain dict can be made a view in this Python")
@pytest.mark.parametrize("cells", [2_000, pytest.param(CELLS, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_cells_at_once_find_the_right_values_and_leave_nothing_behind(cells: int) -> None:
    notebook = run_cells(ExactGlobals, cells)
    assert not notebook.errors, notebook.errors.most_common(3)
    if cells == CELLS and sys.platform == "linux":
        assert_flat(notebook.memory, cells)


def test_cells_at_once_find_the_right_values_in_layers() -> None:
    notebook = run_cells(LayeredGlobals, 1_000)
    assert not notebook.errors, notebook.errors.most_common(3)


def assert_flat(memory: dict[int, float], cells: int) -> None:
    """No more in the last tenth than in the second, but for what the allocator needs. Prints the two."""
    second = max(value for number, value in memory.items() if cells // 10 <= number < cells // 5)
    last = max(value for number, value in memory.items() if number >= cells * 9 // 10)
    print(f"{cells:,} cells: {second:.1f} MB in the second tenth, {last:.1f} MB in the last")
    assert last < second + 3, sorted(memory.items())
