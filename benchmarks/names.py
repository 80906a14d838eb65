"""Speed of a background cell's own code beside the foreground's; cost of names.

All times are CPU time of the thread that runs the code, in a real kernel, the two sides in turns. The shortest of all
rounds counts, since other work on the machine only adds to it. The foreground's code runs in a thread over the
notebook's own names, because memory costs a new thread more than the main one.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from benchmarks.notebook import notebook_kernel
from benchmarks.rows import Row, in_turns, seconds
from nbtasks.notebook.cells.cell_globals import CellGlobals, ExactGlobals, LayeredGlobals
from nbtasks.notebook.cells.namespace import NotebookNames
from tests.kernel.driver import KernelDriver

ROUNDS = 8
REPEATS = 6
AT_MOST = 1.03

_SETUP = """
import functools, sys, threading, time
import ipywidgets
k, items, spent, out = 3, [1, 2], [], []

def notebook_function(n):
    total = 0
    for i in range(n): total += len(items) + abs(k)
    return total

def in_thread(source):
    thread = threading.Thread(target=exec, args=(compile(source, "<cell>", "exec"), get_ipython().user_ns))
    thread.start()
    thread.join()
"""


class Code(NamedTuple):
    """The code that is measured.

    `§` stands for a suffix of the names that differs for the two sides, where both exist.
    """

    name: str
    use: str
    define: str = ""


_LOOP = "\n".join(("    total = 0", "    for i in range(n): total += len(items) + abs(k)", "    return total"))
# The ratios at commit c35c1e1, where each cell ran in a layer, on Python 3.11: while it runs, and after its commit.
BEFORE = {
    "a loop at top level, own names": (1.30,),
    "a loop at top level, notebook's names": (1.50,),
    "a loop at top level, builtins": (2.17,),
    "a function, globals": (3.93, 1.02),
    "a function, builtins": (5.23, 1.01),
    "recursion": (1.51, 1.07),
    "a comprehension": (2.10,),
    "methods of a class": (5.25, 21.73),
    "a generator function": (3.54, 1.01),
    "a decorated function": (2.96, 9.35),
    "a cached function": (2.05, 6.38),
    "a partial": (5.35, 22.75),
    "functions in a registry": (5.51, 22.25),
    "a widget's callback": (5.49, 1.00),
    "a notebook's function": (1.03,),
}
CODE = (
    Code("a loop at top level, own names", "t§ = 0\nfor i§ in range(200_000): t§ += i§"),
    Code("a loop at top level, notebook's names", "for i§ in range(200_000): k; items"),
    Code("a loop at top level, builtins", "for i§ in range(200_000): len(items)"),
    Code("a function, globals", "f§(400_000)", "def f§(n):\n    for i in range(n): k; items; out"),
    Code("a function, builtins", "f§(150_000)", f"def f§(n):\n{_LOOP}"),
    Code("recursion", "fib§(24)", "def fib§(n): return n if n < 2 else fib§(n - 1) + fib§(n - 2)"),
    Code("a comprehension", "for _ in range(400): [i + k for i in items * 500]"),
    Code(
        "methods of a class",
        "c§.run(150_000)",
        f"class C§:\n    def run(self, n):\n{textwrap.indent(_LOOP, '    ')}\nc§ = C§()",
    ),
    Code(
        "a generator function",
        "for _ in g§(200_000): pass",
        "def g§(n):\n    for i in range(n): yield len(items) + k",
    ),
    Code(
        "a decorated function",
        "for _ in range(60_000): d§(1)",
        "def twice§(f):\n    @functools.wraps(f)\n    def wrapper(n): return f(n) + f(n) + k\n    return wrapper\n"
        "@twice§\ndef d§(n): return n + len(items)",
    ),
    Code(
        "a cached function",
        "h§.cache_clear()\nfor i§ in range(60_000): h§(i§)",
        "@functools.lru_cache(maxsize=None)\ndef h§(n): return len(items) + abs(k) + n",
    ),
    Code("a partial", "p§()", f"def q§(n):\n{_LOOP}\np§ = functools.partial(q§, 150_000)\ndel q§"),
    Code("functions in a registry", "r§['f'](150_000)", f"def s§(n):\n{_LOOP}\nr§ = {{'f': s§, 'g': [s§]}}"),
    Code(
        "a widget's callback",
        "b§.click()",
        f"b§ = ipywidgets.Button()\ndef o§(n):\n{_LOOP}\nb§.on_click(lambda _: o§(150_000))",
    ),
    Code("a notebook's function", "notebook_function(150_000)"),
)


_RUNNING = "while it runs"
_names = (f"n{number}" for number in itertools.count(1))

Measure = Callable[[KernelDriver, Code], tuple[Callable[[], float], Callable[[], float]]]


def while_it_runs() -> Iterator[Row]:
    """The code in a background cell beside the same code in the foreground."""
    yield from _measured(_RUNNING, CODE, _running)


def after_its_commit() -> Iterator[Row]:
    """Objects of a completed background cell, used in the foreground, beside those of a foreground cell."""
    yield from _measured("after its commit", [code for code in CODE if code.define], _committed)


def _measured(when: str, codes: Iterable[Code], measure: Measure) -> Iterator[Row]:
    with notebook_kernel() as kernel:
        kernel.run(_SETUP).check()
        for code in codes:
            measures = measure(kernel, code)
            background, foreground = in_turns(*measures, rounds=ROUNDS)
            yield Row(
                f"{code.name}, {when}",
                [min(background)],
                [min(foreground)],
                beside="in the foreground",
                unit="ms",
                at_most=AT_MOST,
                note=f"{BEFORE[code.name][when != _RUNNING]:.2f}x at commit c35c1e1 on Python 3.11",
            )


def _running(kernel: KernelDriver, code: Code) -> tuple[Callable[[], float], Callable[[], float]]:
    def background() -> float:
        return _spent(kernel, lambda: _in_background(kernel, _timed(code, "")))

    def foreground() -> float:
        return _spent(kernel, lambda: _in_foreground(kernel, _timed(code, "")))

    return background, foreground


def _committed(kernel: KernelDriver, code: Code) -> tuple[Callable[[], float], Callable[[], float]]:
    _in_background(kernel, code.define.replace("§", "_b"))
    _in_foreground(kernel, code.define.replace("§", "_f"))
    used = code._replace(define="")

    def defined_in_background() -> float:
        return _spent(kernel, lambda: _in_foreground(kernel, _timed(used, "_b")))

    def defined_in_foreground() -> float:
        return _spent(kernel, lambda: _in_foreground(kernel, _timed(used, "_f")))

    return defined_in_background, defined_in_foreground


def _timed(code: Code, suffix: str) -> str:
    """Source that runs the code several times, and appends the shortest time to `spent`."""
    use = textwrap.indent(code.use, "    ")
    return (
        f"{code.define}\ntook§ = []\nfor _ in range({REPEATS + 1}):\n    start§ = time.thread_time()\n{use}\n"
        "    took§.append(time.thread_time() - start§)\nspent.append(min(took§[1:]))\n"
    ).replace("§", suffix)


def _spent(kernel: KernelDriver, run: Callable[[], None]) -> float:
    kernel.run("spent.clear()").check()
    run()
    return 1e3 * float(kernel.value("spent[0]"))


def _in_foreground(kernel: KernelDriver, source: str) -> None:
    kernel.run(f"in_thread({source!r})").check()


def _in_background(kernel: KernelDriver, source: str) -> None:
    name = next(_names)
    kernel.run(f"%%bgtask {name} --quiet\n{source}").check()
    kernel.run(f"%bgtask wait {name}").check()


_CELL = "y = 1\ndef f(): return y\nclass C:\n    def m(self): return y"
_CLASS = "y = 1\nclass C:" + "".join(f"\n    def m{n}(self): return y + len(items) + {n}" for n in range(20))


def start_and_end() -> Iterator[Row]:
    """What a cell's names cost at its start, end and commit, beside the layers that are the fallback."""
    for count, (what, code) in itertools.product((100, 10_000), (("a cell", _CELL), ("a class of 20 methods", _CLASS))):
        exact, layered = (_turn(count, kind, code) for kind in (ExactGlobals, LayeredGlobals))
        yield Row(
            f"start, end and commit of {what}, {count:,} names",
            *in_turns(exact, layered),
            beside="in a layer",
            at_most=1.0 if count == 10_000 else None,
        )


def _turn(count: int, kind: type[CellGlobals], source: str) -> Callable[[], float]:
    notebook: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    notebook |= {f"n{number}": [number] for number in range(count)}
    names = NotebookNames(notebook, kind(notebook))
    code = compile(source, "<cell>", "exec")
    binds = {name for name in code.co_names if name in "yfC"}

    def cell() -> None:
        opened = names.open(binds=binds)
        exec(code, opened.globals)
        names.end(opened, commit=True)

    def microseconds() -> float:
        gc.collect()  # the class of the turn before
        return 1e6 * seconds(cell, time.thread_time)

    return lambda: min(microseconds() for _ in range(20))


ROWS = [while_it_runs, after_its_commit, start_and_end]
