"""`CellSource`: the source of a cell, transformed and parsed as IPython does it."""

from __future__ import annotations
import __future__

import ast
import contextlib
import functools
import operator
import symtable
import sys
import types
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell

__all__ = ["FUTURES", "CellSource"]

FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

# Functions that need a running event loop, though nothing is awaited: in the foreground the loop is always running.
_LOOP_CALLS = frozenset(
    f"asyncio.{name}"
    for name in (
        "all_tasks", "create_task", "current_task", "ensure_future", "gather", "get_event_loop", "get_running_loop"
    )
) | {"nest_asyncio.apply", "nest_asyncio2.apply"}  # fmt: skip
_ABSENT: Any = object()
_BINDING_MAGICS = frozenset({"edit", "load", "pylab", "recall", "rerun", "run", "store"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class CellSource:
    """The source of a cell, transformed, parsed and named as IPython does it.

    Raises SyntaxError as IPython does. `nested` is the source that a cell passes to `shell.run_cell`.
    """

    def __init__(
        self, shell: InteractiveShell, source: str, execution_count: int | None, *, nested: bool = False
    ) -> None:
        self.source = source
        transformed = shell.transform_cell(source)
        # Kernel and shell both call this for a foreground cell, and warnings of the compiler are shown twice.
        if not nested:
            shell.should_run_async(source, transformed_cell=transformed)
        self.awaits: bool = shell.should_run_async(source, transformed_cell=transformed)
        # The kernel derives the file name from the text; IPython has appended a newline to the body of a cell magic.
        self.filename = shell.compile.cache(transformed, execution_count or 0, raw_code=source.removesuffix("\n"))
        tree = shell.transform_ast(shell.compile.ast_parse(transformed, filename=self.filename))
        self.flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        """The compiler's flags, including those of future statements that have run."""
        self.tree = tree
        self._nodes = _with_shown(tree.body, shell.ast_node_interactivity)
        self.quiet = DisplayHook.semicolon_at_end_of_expression(transformed)
        self.needs_loop = self.awaits or _calls_loop(tree, shell.user_ns)
        """Whether the cell awaits, or calls a function that needs a running event loop."""
        self.binds = _bound_names(tree)
        """The names that the cell binds at its top level, as far as its text shows."""
        bodies = list(_magic_bodies(shell, tree))
        self.binds_later = frozenset[str]().union(*map(_declared_global, (tree, *bodies)))
        """The names that functions of the cell bind by `global`."""
        bound_within = self.binds_later.union(*map(_bound_names, bodies))
        self._may_bind = self.binds | bound_within
        self._imported = {n: sources for n, sources in _imported_names(tree).items() if n not in bound_within}
        self.loops_on = _loop_names(tree) - self._may_bind
        """The names that the conditions of its `while` loops read and the cell does not bind."""
        self.binds_any = any(map(_binds_any, (tree, *bodies)))
        """Whether the cell may bind names that are not in its text."""

    def rebinds(self, names: Mapping[str, Any]) -> frozenset[str]:
        """Return the names that the cell may bind to other values than in `names`, judging by its text.

        An import of what a name stands for already changes nothing.
        """
        same = (
            name
            for name, sources in self._imported.items()
            if name in names and all(_is_imported(names[name], *source) for source in sources)
        )
        return self._may_bind.difference(same)

    @classmethod
    def of_other_language(cls, shell: InteractiveShell, source: str, execution_count: int | None) -> CellSource:
        """The source of a cell in another language than Python: only its text is known."""
        code = cls(shell, "", execution_count)
        code.source = source
        return code

    def steps(self) -> Generator[tuple[Any, bool], None, None]:
        """The code objects of the statements in order, each with whether its value is to be displayed."""
        for node, shown in self._nodes:
            kind, top = ("eval", ast.Expression(node.value)) if shown else ("exec", ast.Module([node], []))
            code = compile(top, self.filename, kind, flags=self.flags, dont_inherit=True)
            self.flags |= code.co_flags & FUTURES
            yield code, shown


def _with_shown(body: list[ast.stmt], interactivity: str) -> list[tuple[Any, bool]]:
    """The statements, each with whether its value is displayed according to `ast_node_interactivity`."""
    nodes: list[ast.stmt] = list(body)
    if interactivity == "last_expr_or_assign":
        name = _assigned_name(nodes[-1]) if nodes else None
        if name is not None:
            nodes.append(ast.fix_missing_locations(ast.Expr(ast.Name(name, ast.Load()))))
    shown = {
        "all": range(len(nodes)),
        "none": range(0),
    }.get(interactivity, range(max(0, len(nodes) - 1), len(nodes)))
    return [(node, index in shown and isinstance(node, ast.Expr)) for index, node in enumerate(nodes)]


def _assigned_name(node: ast.stmt) -> str | None:
    target: ast.expr | None = None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        target = node.target
    return target.id if isinstance(target, ast.Name) else None


def _calls_loop(tree: ast.Module, names: Mapping[str, Any]) -> bool:
    """Whether the cell itself, not only its functions, calls a function that needs a running event loop.

    Names are resolved by the imports of the cell, then by the notebook's names: nbtasks has a `current_task` too.
    """
    imported = dict(_imports(tree))
    left: list[ast.AST] = list(tree.body)
    while left:
        node = left.pop()
        if isinstance(node, _FUNCTIONS):
            continue
        if isinstance(node, ast.Call) and _full_name(node.func, imported, names) in _LOOP_CALLS:
            return True
        left.extend(ast.iter_child_nodes(node))
    return False


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that the cell imports, with their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _full_name(called: ast.expr, imported: Mapping[str, str], names: Mapping[str, Any]) -> str | None:
    """The called function as `package.function`, if it can be found without running code."""
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        name = called.value.id
        module = imported.get(name) or getattr(names.get(name), "__name__", None)
        return f"{module}.{called.attr}"
    if not isinstance(called, ast.Name):
        return None
    if called.id in imported:
        return imported[called.id]
    value = names.get(called.id)
    package = str(getattr(value, "__module__", "")).lstrip("_").partition(".")[0]
    return f"{package}.{getattr(value, '__name__', '')}"


def _imported_names(tree: ast.Module) -> dict[str, list[tuple[str, str | None]]]:
    """The names that the cell binds by imports alone; for each the modules, and what is taken from them."""
    table = _symbols(tree)
    symbols = () if table is None else table.get_symbols()
    found: dict[str, list[tuple[str, str | None]]] = {
        symbol.get_name(): [] for symbol in symbols if symbol.is_imported() and not symbol.is_assigned()
    }
    for name, module, attribute in _import_sources(tree):
        if name in found:
            found[name].append((module, attribute))
    return found


def _import_sources(tree: ast.Module) -> Iterator[tuple[str, str, str | None]]:
    """Yield each import of the cell: the name that it binds, the module, and the imported attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield (alias.asname, alias.name, None) if alias.asname else (first, first, None)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, "." * node.level + (node.module or ""), alias.name


def _is_imported(value: Any, module: str, attribute: str | None) -> bool:
    """Whether a value is what an import binds, told without importing anything."""
    found = sys.modules.get(module)
    if attribute is None or not isinstance(found, types.ModuleType):
        return found is value
    return vars(found).get(attribute, _ABSENT) is value


def _bound_names(tree: ast.Module) -> frozenset[str]:
    table = _symbols(tree)
    if table is None:
        return frozenset()
    return frozenset(s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported())


def _symbols(tree: ast.Module) -> symtable.SymbolTable | None:
    try:
        # From unparsed text: for the text of the cell the compiler would repeat its warnings.
        return symtable.symtable(ast.unparse(tree), "<cell>", "exec")
    except SyntaxError:
        return None


def _declared_global(tree: ast.Module) -> frozenset[str]:
    """The names that functions and classes bind by `global`."""
    found: set[str] = set()
    table = _symbols(tree)
    left = [] if table is None else list(table.get_children())
    while left:
        inner = left.pop()
        found.update(s.get_name() for s in inner.get_symbols() if s.is_global() and s.is_assigned())
        left.extend(inner.get_children())
    return frozenset(found)


def _loop_names(tree: ast.Module) -> frozenset[str]:
    """The names in the conditions of `while` loops."""
    conditions = [node.test for node in ast.walk(tree) if isinstance(node, ast.While)]
    return frozenset(n.id for test in conditions for n in ast.walk(test) if isinstance(n, ast.Name))


def _binds_any(tree: ast.Module) -> bool:
    """Whether the cell imports `*`, runs a magic that binds names, or uses `exec`, `eval` or `globals`."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]) | ast.Name(id="exec" | "eval" | "globals"):
                return True
            case ast.Call(ast.Attribute(attr="run_line_magic" | "run_cell_magic"), [ast.Constant(name), *_]):
                if name in _BINDING_MAGICS:
                    return True
    return False


def _magic_bodies(shell: InteractiveShell, tree: ast.Module) -> Iterator[ast.Module]:
    """The arguments and bodies of the cell's magics that are Python, and those of the magics in them."""
    for text in _magic_texts(tree):
        with contextlib.suppress(SyntaxError, ValueError):  # not Python
            body = ast.parse(shell.transform_cell(text))
            yield body
            yield from _magic_bodies(shell, body)


def _magic_texts(tree: ast.Module) -> Iterator[str]:
    """The arguments and bodies of the cell's magics, which may be Python: `%time x = 1`, `%%time`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(attr="run_line_magic" | "run_cell_magic"), [*_, ast.Constant(str(text))]):
                yield text
