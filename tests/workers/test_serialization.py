"""Pickling of what cloudpickle cannot send: finished objects, classes, code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import linecache
import logging
import re
import subprocess
import sys
import threading
import traceback
import types
from multiprocessing.pool import ThreadPool

import pytest

from nbtasks.workers.serialization import digest_of, examine, missing_names, pack, pack_names, unpack, unpack_names


def run(coroutine):
    """As `asyncio.run`, which leaves its loop open where nest_asyncio has replaced it."""
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def there_and_back(value):
    return unpack(pack(value))


@pytest.mark.parametrize(("mode", "buffering"), [("w", -1), ("r", -1), ("wb", -1), ("rb", -1), ("r+b", -1), ("rb", 0)])
def test_a_closed_file_arrives_closed_with_its_name_and_mode(tmp_path, mode, buffering):
    path = tmp_path / "file"
    path.touch()
    with open(path, mode, buffering) as file:
        pass
    copy = there_and_back(file)
    assert (type(copy), copy.closed, copy.name, copy.mode) == (type(file), True, file.name, file.mode)
    with pytest.raises(ValueError, match="closed file"):
        copy.seek(0)


def test_an_ended_thread_arrives_ended_with_its_attributes():
    class Finder(threading.Thread):
        def run(self):
            self.found = 42

    thread = Finder(name="finder", daemon=True)
    thread.start()
    thread.join()
    copy = there_and_back(thread)
    assert (type(copy), copy.name, copy.daemon, copy.ident) == (Finder, "finder", True, thread.ident)
    assert (copy.is_alive(), copy.found) == (False, 42)
    with pytest.raises(RuntimeError, match="only be started once"):
        copy.start()


def test_a_running_thread_is_not_sent():
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        with pytest.raises(TypeError):
            pack(thread)
    finally:
        go.set()
        thread.join()


def test_an_ended_program_arrives_with_its_return_code():
    program = subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=False)
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE)
    ended.communicate()
    copy = there_and_back(ended)
    assert copy.returncode == copy.wait() == copy.poll() == program.returncode == 3
    assert copy.stdout.closed


@pytest.mark.parametrize(
    "kind", [concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor, ThreadPool]
)
def test_a_pool_that_was_shut_down_arrives_shut_down(kind):
    with kind(1) as pool:
        pass
    copy = there_and_back(pool)
    assert type(copy) is kind
    with pytest.raises((RuntimeError, ValueError), match=r"shutdown|not running"):
        copy.submit(len, ()) if hasattr(copy, "submit") else copy.map(len, ())


def test_an_open_pool_is_not_sent():
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(TypeError):
        pack(pool)


def test_done_futures_arrive_with_their_outcome():
    given, failed, cancelled = (concurrent.futures.Future() for _ in range(3))
    given.set_result([1])
    failed.set_exception(ValueError("no"))
    cancelled.cancel()
    given, failed, cancelled = there_and_back((given, failed, cancelled))
    assert given.result() == [1]
    assert repr(failed.exception()) == "ValueError('no')"
    assert cancelled.cancelled()
    with pytest.raises(TypeError):
        pack(concurrent.futures.Future())


@pytest.mark.parametrize("kind", ["_CTask", "_PyTask"])
def test_done_asyncio_tasks_and_groups_arrive_done(kind, monkeypatch):
    """Of either kind: nest_asyncio puts the one written in Python in the place of the one written in C."""
    monkeypatch.setattr(asyncio.tasks, "Task", getattr(asyncio.tasks, kind))
    if kind == "_PyTask" and sys.version_info >= (3, 14):  # the functions written in C no longer know such tasks
        for name in ("current_task", "_enter_task", "_leave_task"):
            monkeypatch.setattr(asyncio.tasks, name, getattr(asyncio.tasks, f"_py_{name.removeprefix('_')}"))

    async def both():
        async def seven():
            return 7

        async with asyncio.TaskGroup() as group:
            task = group.create_task(seven())
        task, group, loop = there_and_back((task, group, asyncio.get_running_loop()))
        assert loop is asyncio.get_running_loop()
        with pytest.raises(RuntimeError):
            async with group:
                pass
        return await task

    assert run(both()) == 7


def test_finished_generators_and_coroutines_arrive_finished():
    def numbers():
        yield 1

    async def nothing():
        pass

    async def ticks():
        yield 1

    generator, coroutine, agenerator = numbers(), nothing(), ticks()
    list(generator)
    coroutine.close()
    run(_exhaust(agenerator))
    one, two, three = there_and_back((generator, coroutine, agenerator))
    assert (list(one), one.__qualname__) == ([], generator.__qualname__)
    assert two.cr_frame is None
    assert two.__name__ == "nothing"
    assert run(_exhaust(three)) == []


async def _exhaust(ticks):
    return [one async for one in ticks]


def test_a_generator_that_has_begun_is_not_sent():
    begun = (one for one in (1, 2))
    next(begun)
    with pytest.raises(TypeError, match="a generator that has begun"):
        pack(begun)


def test_a_handler_of_a_reloaded_module_is_sent(tmp_path):
    """As the classes that its rule was made for, though it is of other ones."""
    script = """
import importlib, logging
from nbtasks.workers.serialization import pack, unpack
before = logging.NullHandler()
importlib.reload(logging)
for handler in (before, logging.NullHandler(), logging.FileHandler("log")):
    assert unpack(pack(handler)) is handler
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


class Changing:
    """Can be pickled every second time only, as an object that a thread changes."""

    def __init__(self, name):
        self.name, self.turns = name, 0

    def __reduce__(self):
        self.turns += 1
        if self.turns % 2:
            raise TypeError(f"{self.name} has changed")
        return Changing, (self.name,)


def test_names_whose_objects_change_meanwhile_are_sent_each_on_its_own():
    parcel, refused = pack_names({"one": Changing("one"), "number": 3, "two": Changing("two")})
    names = unpack(parcel)
    assert (names["number"], refused.keys() | names.keys()) == (3, {"one", "number", "two"})
    assert [type(names[name]) for name in names.keys() - {"number"}] == [Changing] * (2 - len(refused))


def test_a_singledispatch_function_arrives_with_its_registry():
    @functools.singledispatch
    def kind(one):
        return "something"

    @kind.register
    def _(one: int):
        return "int"

    copy = there_and_back(kind)
    assert (copy(1), copy(""), copy.__name__) == ("int", "something", "kind")
    copy.register(str, lambda one: "str")
    assert (copy(""), kind("")) == ("str", "something")


@pytest.mark.parametrize(
    "match",
    [
        re.search("b+", "abbb"),
        re.fullmatch("a|ab", "ab"),
        re.compile("b").match("ab", 1),
        [*re.finditer("a", "aba")][1],
    ],
)
def test_a_match_arrives_as_the_same_match(match):
    copy = there_and_back(match)
    assert (copy.regs, copy.string, copy.re) == (match.regs, match.string, match.re)


@pytest.mark.parametrize(
    "code",
    [
        "from typing import NewType\nmade = NewType('made', int)",
        "from typing import ParamSpec\nmade = ParamSpec('made')",
        "from typing import TypeVarTuple\nmade = TypeVarTuple('made')",
        pytest.param(
            "type made = list[int]", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
        ),
    ],
)
def test_types_that_pickle_sends_by_name_arrive_by_value(code):
    """Where they are unpacked, their names do not exist yet."""
    notebook = {"__name__": "__main__"}
    exec(code, notebook)
    made = notebook["made"]
    names, refused = pack_names({"made": made})
    assert refused == {}
    copy = unpack(names)["made"]
    assert copy is not made
    assert (type(copy), copy.__name__, copy.__module__) == (type(made), "made", "__main__")
    for attribute in ("__supertype__", "__value__", "__bound__"):
        assert getattr(copy, attribute, None) == getattr(made, attribute, None)


class ByName:
    def __reduce__(self):
        return "by_name"


def test_an_object_that_exists_only_by_name_does_not_cost_the_other_names(monkeypatch):
    by_name = ByName()
    monkeypatch.setattr(ByName, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "by_name", by_name, raising=False)
    names, refused = pack_names({"number": 1, "by_name": by_name})
    assert unpack(names) == {"number": 1}
    assert "pickled by its name, by_name, which the other process does not have" in str(refused["by_name"])


def test_a_class_of_a_module_not_yet_imported_arrives_as_itself():
    np = pytest.importorskip("numpy")
    sys.modules.pop("numpy.rec", None)
    assert there_and_back(np.recarray) is np.recarray
    assert len(pack(np.recarray)[0]) < 100


def test_classes_and_functions_without_a_module_go_by_value(monkeypatch):
    """Older versions of cloudpickle find them in the alias that multiprocessing makes of the main module."""
    main = sys.modules["__main__"]
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    free = type("Free", (), {"__module__": None, "__qualname__": "Free", "size": 1})

    def half(number: int):
        return number / 2

    whole = types.FunctionType((lambda number: number).__code__, globals(), "whole")
    for one in (free, half, whole):
        one.__module__, one.__qualname__ = None, one.__name__
        monkeypatch.setattr(main, one.__name__, one, raising=False)
    sent = pack((free(), half, whole))
    for one in (free, half, whole):
        monkeypatch.delattr(main, one.__name__)
    copy, half_copy, whole_copy = unpack(sent)
    assert (copy.size, half_copy(4), whole_copy(4)) == (1, 2, 4)


def test_a_handler_of_a_logger_comes_back_as_itself():
    handler = logging.NullHandler()
    parcel = pack(handler)
    handler.setLevel(10)
    assert unpack(parcel) is handler
    assert handler.level == 0


def test_the_digest_of_an_object_changes_with_it_unless_it_is_too_big():
    rows = [1, 2]
    before = digest_of(rows, None, 1_000)
    assert digest_of(rows, None, 1_000) == before
    rows.append(3)
    assert digest_of(rows, None, 1_000) != before
    assert digest_of(list(range(1_000)), None, 1_000) is None
    assert digest_of(list(range(1_000)), None, None) is not None
    assert digest_of(threading.Lock(), None, None) is None


def test_no_element_of_an_array_that_is_too_big_is_pickled():
    np = pytest.importorskip("numpy")
    requested = []

    class Counts:
        def __reduce__(self):
            requested.append(self)
            return Counts, ()

    assert digest_of({"array": np.array([Counts() for _ in range(1_000)])}, None, 1_000) is None
    assert requested == []


CELL_FILE = "/a folder without files/cell.py"
CELL = """
def function(): raise LookupError
def outer():
    def nested(): raise LookupError
    return nested
nested = outer()
class Class:
    def method(self): raise LookupError
    @staticmethod
    def static(): raise LookupError
    @property
    def attribute(self): raise LookupError
lambdas = lambda: {}[0]
async def coroutine(): raise LookupError
def generator(): yield {}[0]
async def agenerator(): yield {}[0]
"""


@pytest.fixture
def cell(monkeypatch):
    """The names of a cell, of which only linecache has the source."""
    lines = CELL.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, CELL_FILE, (len(CELL), None, lines, CELL_FILE))
    names = {"__name__": "__main__"}
    exec(compile(CELL, CELL_FILE, "exec"), names)
    return names


def to_a_process_without_the_cell(value):
    parcel = pack(value)
    del linecache.cache[CELL_FILE]
    return unpack(parcel)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("function", lambda function: function()),
        ("nested", lambda function: function()),
        ("outer", lambda function: function()()),
        ("Class.method", lambda function: function(None)),
        ("Class.static", lambda function: function()),
        ("Class.attribute.fget", lambda function: function(None)),
        ("lambdas", lambda function: function()),
        ("coroutine", lambda function: run(function())),
        ("generator", lambda function: list(function())),
        ("agenerator", lambda function: run(_exhaust(function()))),
    ],
)
def test_code_keeps_its_file_name_and_source_lines(cell, path, call):
    name, *attributes = path.split(".")
    original = functools.reduce(getattr, attributes, cell[name])
    source = inspect.getsource(original)
    copy = functools.reduce(getattr, attributes, to_a_process_without_the_cell(cell[name]))
    assert copy is not original
    assert copy.__code__ == original.__code__
    assert copy.__code__.co_filename == CELL_FILE
    assert inspect.getsource(copy) == source
    with pytest.raises(LookupError) as caught:
        call(copy)
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.line) == (CELL_FILE, CELL.splitlines()[last.lineno - 1].strip())


def test_code_inside_code_keeps_its_file_name(cell):
    [inner] = [
        one for one in to_a_process_without_the_cell(cell["outer"].__code__).co_consts if type(one) is types.CodeType
    ]
    assert (inner.co_name, inner.co_filename) == ("nested", CELL_FILE)


def test_functions_of_one_cell_take_its_source_along_once(cell):
    one, all_of_them = pack(cell["function"]), pack([cell[name] for name in ("function", "outer", "coroutine")])
    assert one[0].count(b"class Class") == all_of_them[0].count(b"class Class") == 1


def test_code_of_a_file_goes_without_its_source(monkeypatch):
    linecache.getlines(__file__)
    parcel = pack(lambda: "a constant")
    assert parcel[0].count(b"a constant") == 1
    monkeypatch.delitem(linecache.cache, __file__)
    assert unpack(parcel).__code__.co_filename == __file__
    assert __file__ not in linecache.cache


class HereOnly:
    """Can be rebuilt only while `_here` is true."""

    def __reduce__(self):
        return _rebuilt_here, ()


_here = True


def _rebuilt_here():
    if not _here:
        raise LookupError("not here")
    return HereOnly()


def test_a_name_that_cannot_be_rebuilt_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = [1, 2]
    values = {"bad": HereOnly(), "in_list": [shared, HereOnly()], "shared": shared, "pair": (shared, {"a": shared})}
    parcel = pack({"names": values, "more": 3})
    monkeypatch.setattr(sys.modules[__name__], "_here", False)
    value, lost = unpack_names(parcel, {}, of=lambda one: one["names"])
    assert value["names"] == {"shared": [1, 2], "pair": ([1, 2], {"a": [1, 2]})} and value["more"] == 3
    assert value["names"]["pair"][0] is value["names"]["shared"] is value["names"]["pair"][1]["a"]
    assert lost.keys() == {"bad", "in_list"} and "not here" in str(lost["bad"].why)


def test_big_arrays_beside_a_name_that_cannot_be_rebuilt_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    parcel = pack({"first": numpy.arange(100_000), "bad": HereOnly(), "second": numpy.ones(100_000)})
    monkeypatch.setattr(sys.modules[__name__], "_here", False)
    value, lost = unpack_names(parcel, {})
    assert value.keys() == {"first", "second"} and value["first"][-1] == 99_999 and lost.keys() == {"bad"}


def test_a_call_that_cannot_be_rebuilt_raises_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = pack({"function": len, "args": (HereOnly(),)})
    monkeypatch.setattr(sys.modules[__name__], "_here", False)
    with pytest.raises(LookupError, match="not here"):
        unpack_names(parcel, {}, of=lambda one: one["names"])


def test_missing_names_are_those_that_functions_read_directly_or_not():
    names = {"__name__": "__main__"}
    code = (
        "def outer(): return inner() + here\ndef inner(): return conn\nhere = 1\n"
        "class Box:\n    def get(self): return lock\nbox = Box()\nunused = 2"
    )
    exec(code, names)

    def is_main(one):
        return one is names

    assert missing_names(["outer", "unknown"], names, is_main) == {"conn", "unknown"}
    assert missing_names(["box"], names, is_main) == {"lock"}
    assert missing_names(["unused"], names, is_main) == set()


def test_a_value_with_a_figure_has_no_digest_to_stay_by() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    assert examine({"a": [1]}, None).digest == digest_of({"a": [1]}, None, None)
    assert examine([figure], None).digest is None
    assert digest_of([figure], None, None) is not None
