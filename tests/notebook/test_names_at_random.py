"""Notebooks made at random: background cells give the values of foreground cells.

Each notebook runs twice: in a plain dict, and with some of its cells in the background, one after the other. All
classes, generators and held functions are made by background cells: those of the foreground do not find the names of a
running cell, as `docs/cells.md` says. Nor does a function with `global` that is held: what it binds comes later.
"""

from __future__ import annotations

import ast
import builtins
import contextvars
import functools
import itertools
import random
from typing import Any

import pytest

from nbtasks.notebook.cells.cell_globals import CellGlobals, ExactGlobals, LayeredGlobals
from nbtasks.notebook.cells.namespace import NotebookNames
from nbtasks.notebook.cells.object_layout import is_supported
from nbtasks.notebook.cells.source import _binds_any, _bound_names, _declared_global
from nbtasks.notebook.patches.main_module import use_names

CELLS = 25
NOTEBOOKS = 25

# `v` and `w` stand for numbers, `f` for a function, `s` for one that binds by `global`, `h`, `c` and `i` for what holds
# functions: a container, a class, a generator.
IN_ANY_CELL = (
    "v = n",
    "v = w + 1",
    "def f(): return n, v, w",
    "def f():\n    def inner(): return v, w\n    return inner()",
    "def f(): return [number + v for number in range(2)] + [(lambda: w)()]",
    "def f(): return eval('v')",
    "def s():\n    global v\n    v = n\n    return v, w, f()",
    "def s():\n    def inner():\n        global v\n        v = w + 1\n        return f()\n    return inner(), v",
    "def made():\n    def inner():\n        global v\n        v = n\n    return inner\ns = made()",
    "out.append(f())",
    "out.append((s(), f(), v))",
)
IN_FOREGROUND = ("del v", "del f")
IN_BACKGROUND = (
    "@functools.lru_cache\ndef f(): return v",
    "h = [lambda: f()]",
    "h = (functools.partial(lambda: w), lambda: (v, f()))",
    "h = [*h, lambda: (f(), w)]",
    "h = [lambda: (s(), v)]",
    "class c:\n    z = v\n    def m(self): return v, w, f()\n    @staticmethod\n    def t(): return w",
    "class c(c):\n    def m(self): return super().m(), v",
    "i = (lambda: (yield from ((v, f()) for _ in range(100))))()",
    "def made():\n    while True: yield v, w\ni = made(); next(i)",
)
USES = ("out.append([call() for call in h])", "out.append((c().m(), c.t(), c().z))", "out.append(next(i))")
NAMES = {"v": 3, "w": 3, "f": 3, "s": 2, "h": 2, "c": 2, "i": 2}


def notebook_at_random(chance: random.Random) -> list[tuple[bool, list[str]]]:
    """Cells as lists of statements, each with whether it runs in the background."""
    cells = []
    for _ in range(CELLS):
        in_background = chance.random() < 0.6
        kinds = IN_ANY_CELL + USES + (IN_BACKGROUND if in_background else IN_FOREGROUND)
        cells.append((in_background, [_statement(chance, kinds) for _ in range(chance.randint(1, 3))]))
    return cells


def _statement(chance: random.Random, kinds: tuple[str, ...]) -> str:
    chosen = {name: f"{'v' if name == 'w' else name}{chance.randrange(count)}" for name, count in NAMES.items()}
    chosen["n"] = str(chance.randrange(100))

    class Chosen(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.parse(chosen.get(node.id, node.id), mode="eval").body

        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.Constant(chosen["v"]) if node.value == "v" else node

        def visit_Global(self, node: ast.Global) -> ast.AST:
            return ast.Global([chosen[name] for name in node.names])

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.name = chosen.get(node.name, node.name) if len(node.name) == 1 and node.name not in "mt" else node.name
            return self.generic_visit(node)

        def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
            node.name = chosen[node.name]
            return self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Chosen().visit(ast.parse(chance.choice(kinds)))))


class Plain:
    """A notebook whose cells all run in the foreground."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "functools": functools}
        self.names |= {"out": [], "v0": 0, "v1": 1, "v2": 2}

    def run(self, statements: list[str], in_background: bool) -> str:
        return execute(statements, self.names)


class Mixed(Plain):
    """A notebook whose cells run in the background where they are to."""

    def __init__(self, kind: type[CellGlobals]) -> None:
        super().__init__()
        self._notebook_names = NotebookNames(self.names, kind(self.names))  # type: ignore[call-arg]
        self._numbers = itertools.count()

    def run(self, statements: list[str], in_background: bool) -> str:
        if in_background:
            return contextvars.copy_context().run(self._run_in_background, statements)
        self._notebook_names.foreground_began(next(self._numbers))
        try:
            return execute(statements, self.names)
        finally:
            self._notebook_names.foreground_ended()

    def _run_in_background(self, statements: list[str]) -> str:
        tree = ast.parse("\n".join(statements))
        later = _declared_global(tree)
        cell = self._notebook_names.open(
            binds=_bound_names(tree) | later, binds_later=later, binds_any=_binds_any(tree)
        )
        use_names(cell.scope)
        error = execute(statements, cell.globals)
        self._notebook_names.end(cell, commit=True)
        return error


def execute(statements: list[str], names: dict[str, Any]) -> str:
    """Run statements until one fails; the error."""
    try:
        for statement in statements:
            exec(compile(statement, "<cell>", "exec", dont_inherit=True), names)
    except Exception as error:
        return repr(error)
    return ""


@pytest.mark.parametrize("kind", [ExactGlobals, LayeredGlobals])
def test_background_cells_give_the_values_of_foreground_cells(kind: type[CellGlobals]) -> None:
    if kind is ExactGlobals and not is_supported():
        pytest.skip("no plain dict can be made a view in this Python")
    for seed in range(NOTEBOOKS):
        plain, mixed = Plain(), Mixed(kind)
        cells = notebook_at_random(random.Random(seed))
        for number, (in_background, statements) in enumerate(cells):
            errors = [notebook.run(statements, in_background) for notebook in (plain, mixed)]
            expected, found = (
                {name: value for name, value in notebook.names.items() if name[0] == "v" or name == "out"}
                for notebook in (plain, mixed)
            )
            ran = [f"{'in background' if b else 'in foreground'}: {s}" for b, s in cells[: number + 1]]
            assert (errors[1], found) == (errors[0], expected), "\n".join([f"seed {seed}", *ran])
