"""Globals of cells: functions that are moved to the notebook's dict, and lookups."""

from __future__ import annotations

import builtins
import contextvars
import functools
import gc
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from nbtasks.notebook.cells import borrowed_globals, cell_globals, object_layout
from nbtasks.notebook.cells.borrowed_globals import BorrowedGlobals, globals_of_all_frames
from nbtasks.notebook.cells.cell_globals import ExactGlobals, LayeredGlobals, globals_for
from nbtasks.notebook.cells.global_names import global_names
from nbtasks.notebook.cells.names_view import NamesView
from nbtasks.notebook.cells.namespace import CellNames, NotebookNames
from nbtasks.notebook.cells.object_layout import is_supported, set_globals, set_type
from nbtasks.notebook.patches.main_module import use_names

pytestmark = pytest.mark.skipif(not is_supported(), reason="no plain dict can be made a view in this Python")


@pytest.fixture
def notebook() -> dict[str, Any]:
    return {"__name__": "__main__", "__builtins__": builtins, "x": 1, "items": []}


@pytest.fixture
def names(notebook: dict[str, Any]) -> NotebookNames:
    return NotebookNames(notebook, ExactGlobals(notebook))


def execute(source: str, cell: CellNames) -> None:
    """Run code in a cell, in a context of its own."""

    def in_context() -> None:
        use_names(cell.scope)
        exec(compile(source, "<cell>", "exec", dont_inherit=True), cell.globals)

    contextvars.copy_context().run(in_context)


def run(names: NotebookNames, source: str, *binds: str, later: tuple[str, ...] = ()) -> CellNames:
    """Run a background cell from its start to its end."""
    cell = names.open(binds=binds, binds_later=later)
    execute(source, cell)
    names.end(cell, commit=True)
    return cell


# -- the fallback ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_check() -> Iterator[None]:
    """Has the check of the interpreter run again in the test and after it."""
    is_supported.cache_clear()
    yield
    is_supported.cache_clear()


@pytest.mark.usefixtures("fresh_check")
class TestFallback:
    def test_plain_dicts_are_the_rule(self) -> None:
        assert type(globals_for({})) is ExactGlobals

    @pytest.mark.parametrize("check", ["_is_plain_cpython", "_layout_is_as_expected", "_works"])
    def test_a_check_that_fails_means_layers(self, monkeypatch: pytest.MonkeyPatch, check: str) -> None:
        monkeypatch.setattr(object_layout, check, lambda: False)
        assert type(globals_for({})) is LayeredGlobals

    def test_objects_laid_out_otherwise_are_noticed_by_reading_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_layout, "_GLOBALS", object_layout._GLOBALS + object_layout._POINTER)
        monkeypatch.setattr(object_layout, "_works", lambda: pytest.fail("something was written"))
        assert not is_supported()

    def test_a_function_that_does_not_take_its_new_globals_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_layout, "set_globals", lambda function, to: None)
        assert not is_supported()

    def test_free_threaded_builds_have_layers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_layout.sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED" or "")
        assert not is_supported()

    def test_with_the_jit_there_are_layers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "_jit", types.SimpleNamespace(is_enabled=lambda: True), raising=False)
        assert not is_supported()

    def test_a_setting_of_the_environment_means_layers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NBTASKS_EXACT_GLOBALS", "0")
        assert type(globals_for({})) is LayeredGlobals


def test_only_a_plain_dict_can_be_made_a_view_and_only_one_of_the_same_layout() -> None:
    class Larger(dict[str, Any]):
        pass

    view = type("V", (NamesView,), {"__slots__": (), "below": {}})
    with pytest.raises(TypeError, match="cannot make a dict a Larger"):
        set_type({}, Larger)
    with pytest.raises(TypeError, match="cannot make a Larger a V"):
        set_type(Larger(), view)
    with pytest.raises(TypeError, match="globals of a builtin_function_or_method"):
        set_globals(len, {})  # type: ignore[arg-type]


# -- what is moved ---------------------------------------------------------------------------------------------------

MOVED = {
    "shared by two names": ("def f(): return x\ng = f", lambda ns: ns["g"]),
    "registry": ("def f(): return x\nregistry = {'f': [f]}", lambda ns: ns["registry"]["f"][0]),
    "lambda in a list": ("hooks = [lambda: x]", lambda ns: ns["hooks"][0]),
    "method": ("class C:\n def f(self=None): return x", lambda ns: ns["C"].f),
    "static method": ("class C:\n @staticmethod\n def f(): return x", lambda ns: ns["C"].f),
    "class method": ("class C:\n @classmethod\n def f(cls): return x", lambda ns: ns["C"].f.__func__.__get__(0)),
    "property": ("class C:\n @property\n def f(self=None): return x", lambda ns: ns["C"].f.fget),
    "nested class": ("class C:\n class D:\n  def f(self=None): return x", lambda ns: ns["C"].D.f),
    "instance": ("class C:\n def f(self=None): return x\nc = C()\ndel C", lambda ns: type(ns["c"]).f),
    "bound method": ("class C:\n def f(self): return x\nm = C().f\ndel C", lambda ns: ns["m"]),
    "partial": ("import functools\np = functools.partial(lambda a: x, 1)", lambda ns: ns["p"].func.__get__(0)),
    "cached": ("import functools\n@functools.lru_cache\ndef f(): return x", lambda ns: ns["f"].__wrapped__),
    "wrapped": (
        "import functools\ndef d(f):\n @functools.wraps(f)\n def w(): return f()\n return w\n@d\ndef f(): return x",
        lambda ns: ns["f"].__wrapped__,
    ),
    "context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef f(): yield x",
        lambda ns: lambda: next(ns["f"].__wrapped__()),
    ),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef f(a=None): return x\n@f.register\ndef _(a: int): return x",
        lambda ns: ns["f"].registry[int].__get__(0),
    ),
    "two names and another": ("def f(): return x\ng = f\nhooks = [lambda: x]", lambda ns: ns["hooks"][0]),
    "closure": ("def outer():\n def inner(): return x\n return lambda: inner()\nf = outer()", lambda ns: ns["f"]),
    "weak reference": ("import weakref\ndef f(): return x\nw = weakref.ref(f)", lambda ns: ns["w"]()),
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n n: int = 1\n def f(self=None): return x",
        lambda ns: ns["C"].f,
    ),
    "callback of an object": (
        "import threading\ntimer = threading.Timer(9, lambda: x)",
        lambda ns: ns["timer"].function,
    ),
    "generator function": ("def f():\n yield x\nkept = [f]", lambda ns: lambda: next(ns["f"]())),
    "slot": ("class C:\n __slots__ = ('f',)\nc = C()\nc.f = lambda: x", lambda ns: ns["c"].f),
    "deque": ("import collections\nd = collections.deque([lambda: x])", lambda ns: ns["d"][0]),
    "ordered dict": ("import collections\nd = collections.OrderedDict(f=lambda: x)", lambda ns: ns["d"]["f"]),
    "default of a dict": (
        "import collections\nd = collections.defaultdict(lambda: x)",
        lambda ns: lambda: ns["d"]["new"],
    ),
    "iterator of C": ("i = map(lambda _: x, range(9)); next(i)", lambda ns: ns["i"].__next__),
    "callback of a weak reference": (
        "import weakref\nclass C: pass\nc = C()\nw = weakref.ref(c, lambda _: x)",
        lambda ns: lambda: ns["w"].__callback__(None),
    ),
    "partial method": (
        "import functools\nclass C:\n f = functools.partialmethod(lambda self, a: x, 1)",
        lambda ns: ns["C"]().f,
    ),
    "partial of a partial": (
        "import functools\np = functools.partial(functools.partial(lambda a, b: x, 1), 2)",
        lambda ns: ns["p"],
    ),
    "cached property": (
        "import functools\nclass C:\n @functools.cached_property\n def f(self): return x",
        lambda ns: lambda: ns["C"]().f,
    ),
    "method by type of argument": (
        "import functools\nclass C:\n @functools.singledispatchmethod\n def f(self, a): return 0\n"
        " @f.register\n def _(self, a: int): return x",
        lambda ns: lambda: ns["C"]().f(1),
    ),
    "setter of a property": (
        "class C:\n def _set(self, value): self.value = x\n f = property(None, _set)\n del _set\nc = C()",
        lambda ns: lambda: setattr(ns["c"], "f", None) or ns["c"].value,
    ),
    "descriptor": ("class D:\n def __get__(self, *_): return x\nclass C: f = D()", lambda ns: lambda: ns["C"].f),
    "metaclass": ("class M(type):\n def __call__(cls): return x\nclass C(metaclass=M): pass", lambda ns: ns["C"]),
    "base class": ("class B:\n def f(self): return x\nclass C(B): pass\ndel B", lambda ns: ns["C"]().f),
    "default value": ("def f(g=lambda: x): return g()\nkept = [f]", lambda ns: ns["f"]),
    "attribute of a function": ("def f(): return 0\nf.g = lambda: x\nkept = [f]", lambda ns: ns["f"].g),
    "variable of a generator": (
        "def f():\n g = lambda: x\n while True: yield g()\nheld = f(); next(held)",
        lambda ns: ns["held"].__next__,
    ),
    "local value of a thread": ("import threading\nv = threading.local()\nv.f = lambda: x", lambda ns: ns["v"].f),
    "enumeration": ("import enum\nclass E(enum.Enum):\n A = 1\n def f(self): return x", lambda ns: ns["E"].A.f),
    "abstract class": (
        "import abc\nclass B(abc.ABC):\n @abc.abstractmethod\n def f(self): pass\nclass C(B):\n def f(self): return x",
        lambda ns: ns["C"]().f,
    ),
}


@pytest.mark.parametrize("case", MOVED)
def test_a_function_that_is_found_is_moved_and_stays_the_object_it_is(
    names: NotebookNames, notebook: dict[str, Any], case: str
) -> None:
    source, get = MOVED[case]
    cell = names.open()
    execute(source, cell)
    before = {id(function) for function in functions_over(cell.globals)}
    names.end(cell, commit=True)
    assert before == {id(function) for function in functions_over(notebook)}
    assert not functions_over(cell.globals)
    notebook["x"] = 50
    assert get(notebook)() == 50


def functions_over(globals_: dict[str, Any]) -> list[types.FunctionType]:
    found = [one for one in gc.get_referrers(globals_) if type(one) is types.FunctionType]
    return [one for one in found if one.__code__.co_filename == "<cell>"]


STAYS = {
    "binds a global": "def f():\n global late\n late = x\nkept = [f]",
    "deletes a global": "def f():\n global late\n del late\nkept = [f]",
    "code within it binds a global": "def f():\n def g():\n  global late\n  late = x\n return g\nkept = [f]",
    "evaluates": "def f(): return eval('x')\nkept = [f]",
    "executes": "def f(): exec('y = x')\nkept = [f]",
    "shows its globals": "def f(): return globals()\nkept = [f]",
    "reads what another binds": (
        "def bind():\n global late\n late = x\ndef f(): return late\nkept = [f, bind]\nbind = None"
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_a_shared_function_that_relies_on_its_view_stays_on_it(
    names: NotebookNames, notebook: dict[str, Any], case: str
) -> None:
    cell = run(names, STAYS[case])
    assert notebook["f"].__globals__ is cell.globals
    assert isinstance(cell.globals, NamesView)


def test_a_function_reads_at_once_what_a_function_out_of_sight_has_bound(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
def start(hold):
    def work():
        global late
        late = hold
    return [work]
made = start(1)
class C:
    def get(self): return late
items.append(made.pop())
late = 0
"""
    run(names, source, later=("late",))
    work = notebook["items"].pop()
    assert notebook["C"]().get() == 0
    work()
    assert notebook["C"]().get() == 1
    names.foreground_began("a")
    assert notebook["late"] == 1


def test_a_function_that_only_its_name_refers_to_is_moved_whatever_it_does(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    run(names, "def add(n):\n global x\n x += n")
    notebook["add"](2)
    assert notebook["x"] == 3 and notebook["add"].__globals__ is notebook


def test_a_function_with_other_builtins_stays_on_its_view(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, "__builtins__ = {'len': lambda value: 'own'}\ndef f(): return len(x)")
    assert notebook["f"]() == "own"


def test_long_containers_and_modules_are_not_searched(names: NotebookNames, notebook: dict[str, Any]) -> None:
    source = """
import collections, types
class Own(list): pass
m = types.ModuleType('m'); m.f = lambda: x
many = [[f] * 2000 for f in (lambda: x, lambda: x)]
queue, own = collections.deque([lambda: x] * 2000), Own([lambda: x] * 2000)
"""
    cell = run(names, source)
    functions = [notebook["m"].f, notebook["many"][0][0], notebook["queue"][0], notebook["own"][0]]
    assert all(function.__globals__ is cell.globals for function in functions)
    notebook["x"] = 5
    assert [function() for function in functions] == [5] * 4


def test_looking_for_functions_runs_no_code_of_the_users(names: NotebookNames, notebook: dict[str, Any]) -> None:
    source = """
ran = []
class Meta(type):
    def __getattribute__(cls, name):
        ran.append(name)
        return type.__getattribute__(cls, name)
    def __eq__(cls, other): ran.append('eq of the class')
    __hash__ = None
class C(metaclass=Meta):
    def __getattribute__(self, name):
        ran.append(name)
        return object.__getattribute__(self, name)
    def __len__(self): ran.append('len')
    def __eq__(self, other): ran.append('eq')
    __hash__ = None
c = [C(), {'c': C()}]
hidden = [[[lambda: x]]]
del ran[:]
"""
    run(names, source)
    globals_of_all_frames()
    assert notebook["ran"] == []
    assert notebook["hidden"][0][0][0].__globals__ is notebook


# -- frames ----------------------------------------------------------------------------------------------------------

GENERATOR = """
done = []
def count():
    try:
        while True: yield x, len(items)
    finally: done.append(x)
counter = count(); next(counter)
kept = [count]
"""


@pytest.fixture(params=["moved", "left on the view"])
def moves_generators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param != "moved":
        monkeypatch.setattr(object_layout, "_generator_offsets", dict)
    return request.param == "moved"


def test_a_generator_that_had_begun_finds_the_notebooks_names(
    names: NotebookNames, notebook: dict[str, Any], moves_generators: bool
) -> None:
    cell = run(names, GENERATOR)
    assert notebook["count"].__globals__ is notebook
    assert (notebook["counter"].gi_frame.f_globals is notebook) is moves_generators
    assert cell.globals in cell_globals._BORROWED
    del cell
    names.foreground_began("a")
    gc.collect()
    cell_globals._BORROWED.release()
    notebook["x"] = 7
    assert next(notebook["counter"]) == (7, 0)
    del notebook["counter"]
    assert notebook["done"] == [7]


def test_what_is_kept_for_frames_is_released_when_none_uses_it(
    names: NotebookNames, notebook: dict[str, Any], moves_generators: bool
) -> None:
    globals_ = run(names, GENERATOR).globals
    assert cell_globals._BORROWED.release()
    assert (globals_ in cell_globals._BORROWED) is not moves_generators
    notebook["counter"].close()
    assert cell_globals._BORROWED.release()
    assert globals_ not in cell_globals._BORROWED


BEGUN = {
    "generator": ("def f():\n while True: yield x\nheld = f(); next(held)", "gi_frame", next),
    "generator that has not begun": ("def f():\n while True: yield x\nheld = f()", "gi_frame", next),
    "generator expression": ("held = (x for _ in range(9)); next(held)", "gi_frame", next),
    "one in an object": (
        "class C:\n def __init__(self): self.made = self.f()\n def f(self):\n  while True: yield x\nc = C()\n"
        "held = [[c]]\ndel c",
        "gi_frame",
        lambda held: next(held[0][0].made),
    ),
    "coroutine": (
        "import types\n@types.coroutine\ndef step(): yield x\nasync def f():\n while True: await step()\n"
        "held = f(); held.send(None)",
        "cr_frame",
        lambda held: held.send(None),
    ),
    "generator in a with statement": (
        "import contextlib\n@contextlib.contextmanager\ndef g(): yield x\ndef f():\n with g():\n"
        "  while True: yield x\nheld = f(); next(held)",
        "gi_frame",
        next,
    ),
    "generator that another one runs": (
        "def g():\n while True: yield x\ndef f(): yield from g()\nheld = f(); next(held)",
        "gi_frame",
        next,
    ),
    "asynchronous generator": (
        "async def f():\n while True: yield x\nheld = f()",
        "ag_frame",
        lambda held: drive(held.__anext__()),
    ),
}


def drive(awaitable: Any) -> Any:
    """What an awaitable that never waits gives."""
    with pytest.raises(StopIteration) as stopped:
        awaitable.send(None)
    return stopped.value.value


@pytest.mark.parametrize("case", BEGUN)
def test_what_a_cell_has_begun_continues_with_the_notebooks_own_dict(
    names: NotebookNames, notebook: dict[str, Any], case: str
) -> None:
    source, frame, step = BEGUN[case]
    run(names, source)
    held = notebook["held"]
    running = held[0][0].made if isinstance(held, list) else held
    for value in (7, 8):
        notebook["x"] = value
        assert step(held) == value
        assert getattr(running, frame).f_globals is notebook
    if case == "coroutine":
        held.close()


@pytest.mark.parametrize("reads", ["eval('x')", "globals()['x']", "late"])
def test_a_generator_that_relies_on_its_view_stays_on_it(
    names: NotebookNames, notebook: dict[str, Any], reads: str
) -> None:
    source = f"def f():\n while True: yield {reads}\nlate = 1\nheld = f(); next(held)"
    cell = run(names, source, later=("late",))
    assert notebook["held"].gi_frame.f_globals is cell.globals
    notebook["x"] = notebook["late"] = 7
    assert next(notebook["held"]) == 7


def test_a_generator_that_another_thread_runs_continues_with_the_notebooks_names(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
import threading
gate, inside, got = threading.Event(), threading.Event(), []
def f():
    yield x
    inside.set()
    gate.wait(60)
    yield x
held = f(); got.append(next(held))
thread = threading.Thread(target=lambda: got.append(next(held))); thread.start(); inside.wait(60)
"""
    run(names, source)
    notebook["x"] = 7
    notebook["gate"].set()
    notebook["thread"].join()
    assert notebook["got"] == [1, 7]


def test_a_generator_that_garbage_collection_closes_still_has_its_globals(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
class Node:
    def __init__(self):
        self.me, self.generator = self, self.run()
        next(self.generator)
    def run(self):
        try: yield x
        finally: items.append(x)
out_of_sight = [Node()] * 2000
"""
    run(names, source)
    names.foreground_began("a")
    del notebook["Node"]
    cell_globals._BORROWED.release()
    notebook["x"] = 3
    del notebook["out_of_sight"]
    gc.collect()
    assert notebook["items"] == [3]


def test_a_with_statement_that_a_generator_is_in_ends_with_the_notebooks_names(
    names: NotebookNames, notebook: dict[str, Any], moves_generators: bool
) -> None:
    source = """
import contextlib
@contextlib.contextmanager
def entered():
    try: yield
    finally: items.append(("exit", x))
def f():
    with entered():
        try:
            while True: yield x
        finally: items.append(("finally", x))
held, manager = f(), entered()
next(held); manager.__enter__()
"""
    run(names, source)
    notebook["x"] = 7
    notebook["held"].close()
    notebook["manager"].__exit__(None, None, None)
    assert notebook["items"] == [("finally", 7), ("exit", 7), ("exit", 7)]


def test_a_function_that_another_thread_runs_at_the_commit_finds_the_notebooks_names(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
import threading
gate, inside, got = threading.Event(), threading.Event(), []
class C:
    def work(self):
        inside.set()
        gate.wait(60)
        got.append(x)
        got.append([x for _ in items] + [(lambda: x)()])
        got.append(self.after())
    def after(self): return x
thread = threading.Thread(target=C().work); thread.start(); inside.wait(60)
"""
    cell = run(names, source)
    assert notebook["C"].work.__globals__ is notebook and cell.globals in cell_globals._BORROWED
    assert cell_globals._BORROWED.release() and cell.globals in cell_globals._BORROWED, "the frame uses it"
    notebook |= {"x": 7, "items": [1]}
    notebook["gate"].set()
    notebook["thread"].join()
    assert notebook["got"] == [7, [7, 7], 7]


def test_what_a_thread_binds_by_global_across_the_commit_arrives(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
import threading
gate, inside = threading.Event(), threading.Event()
def work():
    global before, after
    before = x
    inside.set()
    gate.wait(60)
    after = x
thread = threading.Thread(target=work); thread.start(); inside.wait(60)
"""
    run(names, source, later=("before", "after"))
    assert notebook["before"] == 1 and "after" not in notebook
    notebook["x"] = 7
    notebook["gate"].set()
    notebook["thread"].join()
    names.foreground_began("a")
    assert notebook["after"] == 7 and notebook["before"] == 1


KINDS = {
    "generator": ("def f():\n yield 1\nheld = f()", "held.close()"),
    "coroutine": ("async def f(): pass\nheld = f()", "held.close()"),
    "asynchronous generator": ("async def f():\n yield 1\nheld = f()", "del held"),
    "traceback": ("def f(): 1 / 0\ntry: f()\nexcept Exception as error: held = error", "del held"),
    "frame": ("import sys\ndef f(): return sys._getframe()\nheld = f()", "del held"),
    "thread": (
        "import threading\ngate, inside = threading.Event(), threading.Event()\ndef f(): inside.set(); gate.wait()\n"
        "held = threading.Thread(target=f); held.start(); inside.wait()",
        "gate.set(); held.join()",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_frames_are_seen(kind: str) -> None:
    begin, end = KINDS[kind]
    names: dict[str, Any] = {"__builtins__": builtins}
    exec(begin, names)
    try:
        assert id(names) in seen()
    finally:
        exec(end, names)
    assert id(names) not in seen()


def seen() -> set[int]:
    """The globals of all frames. An automatic garbage collection in between means to try again."""
    return next(filter(None, (globals_of_all_frames() for _ in range(100))))


@pytest.mark.parametrize("out_of_sight", ["frozen objects", "a collection"])
def test_nothing_is_released_where_frames_may_be_out_of_sight(
    monkeypatch: pytest.MonkeyPatch, out_of_sight: str
) -> None:
    if out_of_sight == "frozen objects":
        monkeypatch.setattr(gc, "get_freeze_count", lambda: borrowed_globals._FROZEN + 1)
    else:
        monkeypatch.setattr(gc, "collect", lambda generation: 0)  # as it does while another thread collects
    kept = BorrowedGlobals()
    with kept.keep({}):
        pass
    assert not kept.release() and len(kept) == 1


def test_nothing_is_released_while_a_greenlet_is_suspended() -> None:
    """SQLAlchemy imports greenlet, and uses it where the program is asynchronous only."""
    greenlet = pytest.importorskip("greenlet")
    kept = BorrowedGlobals()
    with kept.keep({}):
        pass

    def switch_there_and_back() -> bool:
        before = kept.release()
        greenlet.getcurrent().parent.switch()
        return before

    other = greenlet.greenlet(switch_there_and_back)
    other.switch()
    assert not kept.release() and len(kept) == 1
    assert other.switch() is False, "the main greenlet was suspended"
    assert kept.release() and not len(kept)


def test_what_is_kept_while_a_function_moves_is_not_released() -> None:
    kept = BorrowedGlobals()
    with kept.keep({}):
        kept.release()
        assert len(kept) == 1
    assert kept.release() and not len(kept)


def test_what_is_kept_does_not_grow_for_ever() -> None:
    kept = BorrowedGlobals(many=10)
    for _ in range(100):
        with kept.keep({}):
            pass
    assert len(kept) <= 10


def test_looking_at_frames_leaves_nothing_behind() -> None:
    class Probe:
        pass

    probe = Probe()
    gone = weakref.ref(probe)
    gc.disable()
    try:
        assert globals_of_all_frames() is not None
        del probe
        assert gone() is None
    finally:
        gc.enable()


def test_a_collection_in_another_thread_is_noticed() -> None:
    """The objects that it is about to free are in no list, but a generator may still run its `finally`."""
    inside, go = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            inside.set()
            go.wait(60)

    def collect() -> None:
        Slow()
        gc.collect()

    gc.collect()
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        inside.wait(60)
        assert globals_of_all_frames() is None
    finally:
        go.set()
        thread.join()


# -- lending ---------------------------------------------------------------------------------------------------------

READER = "class C:\n def read(self): return x\nhooks = [lambda: x + len(items)]"


def test_a_moved_function_reads_what_a_running_cell_has_bound(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, READER)
    cell = names.open(binds=["x"])
    execute("x = 5\nseen = C().read(), hooks[0]()", cell)
    assert cell.globals["seen"] == (5, 5)
    assert (notebook["C"]().read(), notebook["hooks"][0]()) == (1, 1)
    names.end(cell, commit=True)
    assert (notebook["C"]().read(), notebook["hooks"][0]()) == (5, 5)
    assert notebook["C"].read.__globals__ is notebook["hooks"][0].__globals__ is notebook


def test_a_moved_function_reads_what_a_notebooks_function_has_bound_in_a_running_cell(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    run(names, READER)
    exec("def bind():\n global x\n x = 5", notebook)
    cell = names.open(binds=["seen"])
    execute("bind()\nseen = C().read(), hooks[0]()", cell)
    assert cell.globals["seen"] == (5, 5) and notebook["C"]().read() == 1
    names.end(cell, commit=True)
    assert notebook["C"]().read() == 5 and notebook["C"].read.__globals__ is notebook


def test_each_of_two_running_cells_has_its_own_value_read(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, READER)
    one, other = names.open(binds=["x"]), names.open(binds=["x"])
    execute("x = 5", one)
    execute("x = 6\nseen = C().read()", other)
    execute("seen = C().read()", one)
    assert one.globals["seen"] == 5 and other.globals["seen"] == 6
    names.end(other, commit=True)
    execute("seen = C().read()", one)
    assert one.globals["seen"] == 5
    names.end(one, commit=False)
    assert notebook["C"]().read() == 6 and notebook["C"].read.__globals__ is notebook


def test_a_cell_that_may_bind_any_name_has_all_functions_lent(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, READER)
    cell = names.open(binds_any=True)
    execute("globals()['x'] = 5\nseen = C().read()", cell)
    assert cell.globals["seen"] == 5
    names.end(cell, commit=True)
    assert notebook["C"].read.__globals__ is notebook


def test_a_function_of_a_cell_that_ends_while_another_binds_what_it_reads_is_lent_too(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    later = names.open(binds=["x"])
    cell = run(names, READER)
    names.adopt(cell, later)
    execute("x = 5\nseen = C().read()", later)
    assert later.globals["seen"] == 5 and notebook["C"]().read() == 1
    names.end(later, commit=True)
    assert notebook["C"].read.__globals__ is notebook


def test_a_function_that_no_running_cell_concerns_is_not_lent(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, READER)
    cell = names.open(binds=["y"])
    assert notebook["C"].read.__globals__ is notebook
    names.end(cell, commit=True)


def test_a_generator_reads_what_a_running_cell_has_bound(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, "def f():\n while True: yield x\ncounter = f(); next(counter)")
    cell = names.open(binds=["x"])
    execute("x = 5\nseen = next(counter)", cell)
    assert cell.globals["seen"] == 5 and next(notebook["counter"]) == 1
    names.end(cell, commit=False)
    assert notebook["counter"].gi_frame.f_globals is notebook and next(notebook["counter"]) == 1


def test_what_foreground_code_binds_by_global_is_read_at_once_and_not_by_a_running_cell(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    run(names, READER)
    exec("def bind(value):\n global x\n x = value", notebook)
    names.foreground_began("a")
    notebook["bind"](7)
    assert (notebook["C"]().read(), notebook["hooks"][0]()) == (7, 7)
    cell = names.open(binds=["x"])
    execute("x = 5", cell)
    notebook["bind"](8)
    assert (notebook["C"]().read(), notebook["hooks"][0]()) == (8, 8)
    execute("seen = C().read(), hooks[0]()", cell)
    assert cell.globals["seen"] == (5, 5)
    names.foreground_ended()
    names.end(cell, commit=False)
    notebook["bind"](9)
    assert (notebook["C"]().read(), notebook["hooks"][0]()) == (9, 9)


@pytest.mark.parametrize("end", ["it is deleted", "a cycle is collected"])
def test_callbacks_of_weak_references_are_called_with_the_notebooks_names(
    names: NotebookNames, notebook: dict[str, Any], end: str
) -> None:
    source = """
import weakref
class C: pass
c = C()
weakref.finalize(c, lambda: items.append(x))
w = weakref.ref(c, lambda _: items.append(x))
"""
    if end != "it is deleted":
        source += "c.me = c\n"
    run(names, source)
    notebook["x"] = 7
    del notebook["c"]
    gc.collect()
    assert notebook["items"] == [7, 7]


@pytest.mark.parametrize("binds_any", [False, True], ids=["cells that bind a name", "cells that may bind any name"])
def test_functions_that_are_gone_are_forgotten(notebook: dict[str, Any], binds_any: bool) -> None:
    exact = ExactGlobals(notebook)
    names = NotebookNames(notebook, exact)
    for number in range(3_000):
        run(names, f"hooks = [lambda: x{number} + len(items)]")
        if number % 100 == 0:
            names.end(names.open(binds=["y"], binds_any=binds_any), commit=True)
    moved = exact._moved
    assert len(moved._functions) < 1_500 and len(moved._readers) < 1_500
    assert all(len(readers) < 1_500 for readers in moved._readers.values())


# -- names in code ---------------------------------------------------------------------------------------------------


def test_the_global_names_of_code_are_those_that_the_interpreter_loads_and_stores() -> None:
    many = "".join(f"    a{number}.b{number}\n" for number in range(300))
    source = f"""
def f(argument):
    global bound, deleted
    bound = argument.attribute
    del deleted
{many}
    def inner(): return within
    class C(base):
        in_class = read_in_class
    return [element for element in iterated], bound
"""
    names: dict[str, Any] = {}
    exec(source, names)
    found = global_names(names["f"].__code__)
    assert found.binds == {"bound", "deleted"}
    ours = {name for name in found.reads if not name.startswith("a")}
    assert ours - {"__name__"} == {"within", "base", "read_in_class", "iterated", "bound"}
    assert {f"a{number}" for number in range(300)} <= found.reads
    assert not {f"b{number}" for number in range(300)} & found.reads


def test_functions_run_on_when_the_extension_is_unloaded(notebook: dict[str, Any]) -> None:
    names = NotebookNames(notebook, ExactGlobals(notebook))
    run(names, GENERATOR + READER)
    del names
    gc.collect()
    notebook["x"] = 4
    assert next(notebook["counter"]) == (4, 0) and notebook["C"]().read() == 4


def test_counts_of_references_are_the_same_before_and_after_the_code_is_specialized() -> None:
    views = [{}]
    assert {cell_globals._references_in(views, 0) for _ in range(10_000)} == {cell_globals._ONLY_IN_LIST}


def test_the_stack_of_a_thread_is_read_whole() -> None:
    def down(levels: int) -> list[str]:
        if levels:
            return down(levels - 1)
        return [frame.f_code.co_name for frame in borrowed_globals._stack(threading.get_ident())]

    assert down(50)[:53] == ["_stack"] + ["down"] * 51 + ["test_the_stack_of_a_thread_is_read_whole"]
    assert functools.reduce(lambda total, _: total + 1, borrowed_globals._stack(-1), 0) == 0
