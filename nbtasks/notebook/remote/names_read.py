"""Static analysis of a cell: the notebook's names that it reads, and where.

Only the source is looked at: names of builtins and undefined names are found too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nbtasks.workers.serialization import EVALUATES_TEXT, global_names

__all__ = ["Reads", "names_read"]

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_LOOKS_AROUND = frozenset({"globals", "locals", "vars", "dir"})
_NAMESPACES = frozenset({"user_ns", "user_global_ns"})
_EVALUATES_CODE = frozenset({"eval", "exec", "timeit", "repeat", "Timer"})
"""Functions whose first argument is code: if it is not in the source, it may read any name."""
_TESTS = frozenset({"testmod", "main"})
"""Functions that look for tests in `__main__`, those of doctest and unittest."""
_LISTING_MAGICS = frozenset({"who", "who_ls", "whos", "run", "store", "reset", "reset_selective", "xdel", "psearch"})
_MAGIC_CALLS = frozenset({"run_line_magic", "run_cell_magic", "magic"})
_POOLS = frozenset({"Pool", "ProcessPoolExecutor"})
"""Classes whose processes may be copies of the one that makes them, as it is then."""


@dataclass
class Reads:
    """The names that a cell reads, each with its first line.

    `sure` are those that it reads before it binds them, `maybe` those that it may read. `sure` has also those that
    only a branch reads (`branches`): they must be sent, but one that cannot be rebuilt there may not be needed.
    """

    sure: dict[str, int] = field(default_factory=dict)
    maybe: dict[str, int] = field(default_factory=dict)
    branches: set[str] = field(default_factory=set)
    """Those of `sure` that only the body of an `if`, an `except` or a `case` reads."""
    modules: set[str] = field(default_factory=set)
    """Modules that it imports."""
    everything: bool = False
    """Whether it may look at any name: `globals()`, `%who`."""
    starts_pool: bool = False
    """Whether it may start processes that are copies of its own, which find functions by name."""
    changed: set[str] = field(default_factory=set)
    """Names whose objects its source changes: it sets their items or attributes, or calls their methods."""


def names_read(tree: ast.Module, transform: Callable[[str], str]) -> Reads:
    """The names that the cell of this tree reads; `transform` turns the text of magics into Python."""
    visitor = _Visitor(transform)
    visitor.visit_all(tree.body)
    return visitor.finished()


def _is_computed(args: list[ast.expr]) -> bool:
    """Whether the first argument is not a literal text, nor a function."""
    return bool(args) and not isinstance(args[0], ast.Constant | ast.Lambda)


class _Visitor(ast.NodeVisitor):
    """Visits statements in order, and keeps the names that are or may be bound."""

    def __init__(self, transform: Callable[[str], str]) -> None:
        self._transform = transform
        self._reads = Reads()
        self._bound: set[str] = set()
        self._perhaps: set[str] = set()
        self._local: list[set[str]] = []
        self._later: dict[str, int] = {}
        self._in_branch = 0
        self._unconditional: set[str] = set()

    def finished(self) -> Reads:
        for name, line in self._later.items():  # what functions read when they are called
            kind = self._reads.maybe if name in self._bound | self._perhaps else self._reads.sure
            kind.setdefault(name, line)
        self._reads.branches = self._reads.sure.keys() - self._unconditional - self._later.keys()
        return self._reads

    def visit_all(self, nodes: list[Any]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if any(node.id in names for names in self._local):
            return
        if isinstance(node.ctx, ast.Store):
            (self._local[-1] if self._local and node.id in self._local[-1] else self._bound).add(node.id)
        elif node.id not in self._bound:
            kind = self._reads.maybe if node.id in self._perhaps else self._reads.sure
            kind.setdefault(node.id, node.lineno)
            if not self._in_branch:
                self._unconditional.add(node.id)
        if isinstance(node.ctx, ast.Del):
            self._bound.discard(node.id)

    # -- what binds -------------------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit_all([node.value, *node.targets])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit_all([node.annotation, node.value])
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.visit(ast.copy_location(ast.Name(node.target.id, ast.Load()), node))
        self.visit_all([node.value, node.target])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bound.add(node.target.id)

    def visit_Import(self, node: ast.Import) -> None:
        self._reads.everything |= any(alias.name == "__main__" for alias in node.names)
        self._reads.modules.update(alias.name for alias in node.names)
        self._bound.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "__main__":
            for alias in node.names:
                self._reads.everything |= alias.name == "*"
                self.visit(ast.copy_location(ast.Name(alias.name, ast.Load()), node))
        self._reads.modules.add(node.module or "")
        self._bound.update(alias.asname or alias.name for alias in node.names)

    def visit_FunctionDef(self, node: Any) -> None:
        given = node.args
        self.visit_all([*node.decorator_list, *given.defaults, *given.kw_defaults])
        self.visit_all([a.annotation for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)])
        self.visit_all([node.returns])
        self._read_later(node)
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the names are the standard library's

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit_all([*node.args.defaults, *node.args.kw_defaults])
        self._read_later(ast.copy_location(ast.Expr(node), node))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all([*node.decorator_list, *node.bases, *(k.value for k in node.keywords)])
        outside = set(self._bound)
        self.visit_all(node.body)
        self._bound = outside
        self._bind(node.name)

    def _bind(self, name: str) -> None:
        self._bound.add(name)

    def _read_later(self, node: Any) -> None:
        try:
            code = compile(ast.Module([node], []), "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError:
            return
        for constant in code.co_consts:
            if hasattr(constant, "co_code"):
                for name in global_names(constant):
                    if not any(name in names for names in self._local):
                        self._later.setdefault(name, node.lineno)

    # -- what changes an object -------------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._reads.everything |= node.attr in _NAMESPACES
        self._note_change(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._reads.everything |= isinstance(node.slice, ast.Constant) and node.slice.value == "__main__"
        self._note_change(node)

    def _note_change(self, node: Any) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._changes(node)
        self.generic_visit(node)

    def _changes(self, node: ast.expr) -> None:
        while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            self._reads.changed.add(node.id)

    # -- what may or may not happen ---------------------------------------------------------------------------

    @contextmanager
    def _branch(self) -> Iterator[None]:
        before = set(self._bound)
        yield
        self._perhaps |= self._bound - before
        self._bound = before

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        before = set(self._bound)
        self._in_branch += 1
        self.visit_all(node.body)
        body, self._bound = self._bound, set(before)
        self.visit_all(node.orelse)
        self._in_branch -= 1
        self._perhaps |= body ^ self._bound
        self._bound &= body

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        with self._branch():
            self.visit_all(node.body)
        with self._branch():
            self.visit_all(node.orelse)

    def visit_For(self, node: Any) -> None:
        self.visit(node.iter)
        with self._branch():
            self.visit_all([node.target, *node.body])
        with self._branch():
            self.visit_all(node.orelse)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_Try(self, node: Any) -> None:
        with self._branch():
            self.visit_all([*node.body, *node.orelse])
        self._in_branch += 1
        for handler in node.handlers:
            with self._branch():
                self.visit_all([handler.type])
                if handler.name:
                    self._bound.add(handler.name)
                self.visit_all(handler.body)
        self._in_branch -= 1
        self.visit_all(node.finalbody)

    visit_TryStar = visit_Try  # noqa: N815

    def visit_match_case(self, node: ast.match_case) -> None:
        self._in_branch += 1
        with self._branch():
            for part in ast.walk(node.pattern):
                if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                    self._bound.add(part.name)
                elif isinstance(part, ast.MatchMapping) and part.rest:
                    self._bound.add(part.rest)
                elif isinstance(part, ast.Name):
                    self.visit(part)
            self.visit_all([node.guard, *node.body])
        self._in_branch -= 1

    def _visit_comprehension(self, node: Any) -> None:
        names = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        self.visit(node.generators[0].iter)
        self._local.append(names)
        for index, generator in enumerate(node.generators):
            self.visit_all([generator.iter] if index else [])
            self.visit_all(generator.ifs)
        self.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self._local.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815

    # -- what is read by its name in a text -------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            self._changes(node.func)
        called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        self._reads.starts_pool |= called in _POOLS
        if (called in _LOOKS_AROUND and not node.args) or called in _TESTS or "__main__" in texts:
            self._reads.everything = True
        elif called in _MAGIC_CALLS and texts:
            self._reads.everything |= texts[0] in _LISTING_MAGICS
            for text in texts[1:]:
                self._read_text(text, node.lineno)
        elif called in EVALUATES_TEXT:
            self._reads.everything |= called in _EVALUATES_CODE and _is_computed(node.args)
            for text in texts:
                self._read_text(text, node.lineno)
        self.generic_visit(node)

    def _read_text(self, text: str, line: int) -> None:
        for name in _IDENTIFIER.findall(text):
            self._reads.maybe.setdefault(name, line)
        try:
            tree = ast.parse(self._transform(text))
        except (SyntaxError, ValueError):
            return
        inner = _Visitor(self._transform)
        inner._bound = set(self._bound)
        inner.visit_all(tree.body)
        found = inner.finished()
        self._reads.everything |= found.everything
        self._reads.starts_pool |= found.starts_pool
        self._reads.changed |= found.changed
        self._perhaps |= inner._bound
