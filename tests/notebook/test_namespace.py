"""Names of background cells: snapshot, commit, and functions that outlive a cell.

Every test runs twice: over plain dicts, and over layers, which replace them where they are not supported.
"""

from __future__ import annotations

import builtins
import functools
import gc
import sys
import threading
import types
import weakref
from typing import Any

import pytest

from nbtasks.notebook.cells.cell_globals import ExactGlobals, LayeredGlobals
from nbtasks.notebook.cells.namespace import CellNames, NotebookNames
from nbtasks.notebook.cells.object_layout import is_supported


@pytest.fixture
def notebook() -> dict[str, Any]:
    return {"__name__": "__main__", "__builtins__": builtins, "x": 1, "items": []}


needs_exact = pytest.mark.skipif(not is_supported(), reason="no plain dict can be made a view in this Python")


@pytest.fixture(params=[pytest.param(ExactGlobals, marks=needs_exact), LayeredGlobals])
def names(request: pytest.FixtureRequest, notebook: dict[str, Any]) -> NotebookNames:
    return NotebookNames(notebook, request.param(notebook))


def run(names: NotebookNames, source: str, *, commit: bool = True) -> CellNames:
    """Run a background cell from its start to its end."""
    cell = names.open()
    exec(compile(source, "<cell>", "exec", dont_inherit=True), cell.globals)
    names.end(cell, commit=commit)
    return cell


def test_a_running_cell_reads_the_notebook_and_writes_its_own(names: NotebookNames, notebook: dict[str, Any]) -> None:
    cell = names.open()
    exec("y = x + 1\nfor i in range(3): x = i", cell.globals)
    assert cell.globals["y"] == 2
    assert "y" not in notebook and "i" not in notebook and notebook["x"] == 1


def test_a_running_cell_does_not_see_what_the_notebook_binds_meanwhile(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    cell = names.open()
    notebook["x"] = 100
    exec("seen = x", cell.globals)
    assert cell.globals["seen"] == 1


def test_names_are_committed_at_once_where_no_foreground_cell_runs(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    run(names, "y = x + 1\ndel items")
    assert notebook["y"] == 2 and "items" not in notebook


def test_names_wait_for_the_end_of_the_foreground_cell(names: NotebookNames, notebook: dict[str, Any]) -> None:
    names.foreground_began("request")
    run(names, "y = 2")
    assert "y" not in notebook
    names.foreground_ended()
    assert notebook["y"] == 2


def test_a_cell_run_within_a_cell_is_no_boundary(names: NotebookNames, notebook: dict[str, Any]) -> None:
    names.foreground_began("request")
    names.foreground_began("request")
    run(names, "y = 2")
    names.foreground_ended()
    assert "y" not in notebook
    names.foreground_ended()
    assert notebook["y"] == 2


def test_a_request_that_never_told_its_end_holds_up_commits_only_until_the_next(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    names.foreground_began("first")
    run(names, "y = 2")
    names.foreground_began("second")
    assert notebook["y"] == 2
    names.foreground_ended()
    assert not names.in_foreground


def test_a_wait_commits_under_a_running_foreground_cell(names: NotebookNames, notebook: dict[str, Any]) -> None:
    names.foreground_began("request")
    cell = run(names, "y = 2")
    names.commit(cell)
    assert notebook["y"] == 2


def test_a_commit_happens_once(names: NotebookNames, notebook: dict[str, Any]) -> None:
    cell = run(names, "y = 2")
    notebook["y"] = 3
    names.commit(cell)
    names.foreground_began("request")
    assert notebook["y"] == 3


def test_a_name_that_the_notebook_rebound_keeps_its_value_and_is_told(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    reported: list[tuple[str, ...]] = []
    cell = names.open()
    cell.on_kept = reported.append
    exec("x = 'task'\ny = 'task'", cell.globals)
    notebook["x"] = "notebook"
    names.end(cell, commit=True)
    assert notebook["x"] == "notebook" and notebook["y"] == "task"
    assert reported == [("x",)]
    assert cell.current()["x"] == "task"


def test_a_name_that_the_notebook_deleted_stays_deleted(names: NotebookNames, notebook: dict[str, Any]) -> None:
    cell = names.open()
    exec("x = 'task'", cell.globals)
    del notebook["x"]
    names.end(cell, commit=True)
    assert "x" not in notebook and cell.kept == ("x",)


def test_a_name_that_appeared_in_the_notebook_meanwhile_is_kept(names: NotebookNames, notebook: dict[str, Any]) -> None:
    cell = names.open()
    exec("fresh = 'task'", cell.globals)
    notebook["fresh"] = "notebook"
    names.end(cell, commit=True)
    assert notebook["fresh"] == "notebook" and cell.kept == ("fresh",)


@pytest.mark.parametrize("in_foreground", [False, True])
def test_between_two_cells_the_later_commit_wins(
    names: NotebookNames, notebook: dict[str, Any], in_foreground: bool
) -> None:
    if in_foreground:
        names.foreground_began("request")
    first, second = names.open(), names.open()
    exec("x = 'second'\nnew = 'second'", second.globals)
    names.end(second, commit=True)
    exec("x = 'first'\nnew = 'first'", first.globals)
    names.end(first, commit=True)
    names.foreground_ended()
    assert notebook["x"] == "first" and notebook["new"] == "first"
    assert first.kept == second.kept == ()


def test_an_attempt_starts_with_commits_that_still_wait(names: NotebookNames, notebook: dict[str, Any]) -> None:
    names.foreground_began("request")
    run(names, "y = 2\ndel items")
    later = names.open()
    exec("z = y + 1", later.globals)
    assert "items" not in later.globals
    names.end(later, commit=True)
    names.foreground_ended()
    assert notebook["z"] == 3 and notebook["y"] == 2 and later.kept == ()


def test_attempts_that_follow_each_other_under_one_foreground_cell_build_on_each_other(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    names.foreground_began("one")
    for _ in range(4):
        run(names, "x += 1\nnew = globals().get('new', 0) + 1")
    assert (notebook["x"], "new" in notebook) == (1, False)
    names.foreground_ended()
    assert (notebook["x"], notebook["new"]) == (5, 4)


def test_what_a_later_attempt_rebinds_over_a_waiting_commit_wins(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    names.foreground_began("request")
    run(names, "y = 1")
    run(names, "y = y + 1")
    names.foreground_ended()
    assert notebook["y"] == 2


def test_without_commit_nothing_reaches_the_notebook_and_the_names_are_kept(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    cell = run(names, "y = 2\nx = 5", commit=False)
    assert "y" not in notebook and notebook["x"] == 1
    assert cell.current() == {"y": 2, "x": 5}


def test_overrides_hold_while_the_cell_runs_and_are_never_committed(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    cell = names.open({"exit": "refused"})
    exec("seen = exit", cell.globals)
    names.end(cell, commit=True)
    assert notebook["seen"] == "refused" and "exit" not in notebook


def test_a_cell_that_waited_for_another_has_its_names_and_does_not_claim_them(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    names.foreground_began("request")
    waiting = names.open()
    exec("mine = 1", waiting.globals)
    cell = run(names, "y = 2\nmine = 2")
    names.adopt(cell, waiting)
    exec("z = y", waiting.globals)
    assert waiting.globals["z"] == 2 and waiting.globals["mine"] == 1
    assert waiting.current() == {"mine": 1, "z": 2}
    names.end(waiting, commit=True)
    names.foreground_ended()
    assert notebook["y"] == 2 and notebook["z"] == 2 and notebook["mine"] == 1


def test_a_function_sees_later_changes_of_the_notebook(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, "def f(): return x")
    notebook["x"] = 50
    assert notebook["f"]() == 50


def test_a_function_that_only_its_name_refers_to_is_as_one_of_the_foreground(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = "def f(a, b=2, *, c: int = 3) -> int:\n 'doc'\n return a + b + c + x\nf.tag = 1"
    cell = run(names, source)
    f = notebook["f"]
    assert f.__globals__ is notebook and cell.current()["f"] is f
    assert f(1) == 7 and f.__doc__ == "doc" and f.tag == 1
    assert f.__annotations__ == {"c": int, "return": int} and f.__module__ == "__main__"


@pytest.mark.parametrize(
    ("source", "get"),
    [
        ("def f(): return x\nregistry = {'f': f}", lambda ns: (ns["f"], ns["registry"]["f"])),
        ("def f(): return x\ng = f", lambda ns: (ns["f"], ns["g"])),
        ("class C:\n def f(self): return x\nf = C.f", lambda ns: (ns["f"], ns["C"].f)),
        ("import weakref\ndef f(): return x\nw = weakref.ref(f)", lambda ns: (ns["f"], ns["w"]())),
        ("import functools\ndef f(): return x\np = functools.partial(f)", lambda ns: (ns["f"], ns["p"].func)),
    ],
    ids=["registry", "two names", "method", "weak reference", "partial"],
)
def test_a_function_that_anything_else_refers_to_stays_the_object_it_was(
    names: NotebookNames, notebook: dict[str, Any], source: str, get: Any
) -> None:
    run(names, source)
    one, other = get(notebook)
    assert one is other
    notebook["x"] = 7
    assert (one(None) if "self" in source else one()) == 7


def test_cached_functions_generators_and_classes_see_the_notebooks_live_names(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    source = """
import functools
@functools.lru_cache(None)
def cached(n): return x + n
def count():
    while True: yield x
gen = count(); next(gen)
class K:
    def m(self): return x
k = K()
"""
    run(names, source)
    notebook["x"] = 10
    assert notebook["cached"](1) == 11 and next(notebook["gen"]) == 10 and notebook["k"].m() == 10
    assert isinstance(notebook["cached"], functools._lru_cache_wrapper)


def test_what_a_cells_code_binds_later_by_global_is_committed_at_the_next_boundary(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    run(names, "def setter():\n global late\n late = 1\nhooks = [setter]")
    notebook["hooks"][0]()
    assert "late" not in notebook
    names.foreground_began("request")
    assert notebook["late"] == 1


def test_after_the_commit_globals_shows_the_notebook(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, "def f(): return globals()\nkeep = [f]")
    seen = notebook["keep"][0]()
    assert "x" in seen and seen.get("x") == 1 and seen.get("nothing", 5) == 5
    assert set(seen) >= {"x", "keep", "f"} and dict(seen)["x"] == 1
    assert len(seen) == len(list(seen)) and ("x", 1) in seen.items() and 1 in seen.values()


def test_deleting_in_a_function_by_global_is_committed(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, "def f():\n global x\n del x\nf()")
    assert "x" not in notebook


def test_the_snapshot_is_let_go_when_the_attempt_ends(names: NotebookNames, notebook: dict[str, Any]) -> None:
    class Big:
        pass

    notebook["big"] = Big()
    gone = weakref.ref(notebook["big"])
    names.foreground_began("request")
    cell = run(names, "def f(): return big\nkeep = [f]")
    del notebook["big"]
    gc.collect()
    assert gone() is None and cell.current().keys() == {"f", "keep"}


def test_the_dict_of_a_cell_that_left_nothing_behind_is_freed(names: NotebookNames, notebook: dict[str, Any]) -> None:
    class Probe:
        pass

    cell = run(names, "y = 1")
    dict.__setitem__(cell.globals, "__doc__", probe := Probe())  # it stays in the view, and goes with it
    gone = weakref.ref(probe)
    del cell, probe
    names.foreground_began("a")
    gc.collect()
    assert gone() is None


def test_a_lookup_of_a_builtin_in_a_running_cell_takes_no_python_call(names: NotebookNames) -> None:
    cell = names.open()
    calls: list[types.FrameType] = []

    exec("def f():\n for _ in range(10): len([])", cell.globals)
    f = cell.globals["f"]
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, arg: calls.append(frame) if event == "call" else None)
    try:
        f()
    finally:
        sys.setprofile(before)
    assert [frame.f_code.co_name for frame in calls] == ["f"]


def test_commits_from_many_threads_lose_no_name(names: NotebookNames, notebook: dict[str, Any]) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        stop = threading.Event()

        def foreground() -> None:
            turn = 0
            while not stop.wait(0.0002):  # the lock is not fair: one that never rests would starve the others
                names.foreground_began(turn)
                notebook["fg"] = turn
                names.foreground_ended()
                turn += 1

        def background(worker: int) -> None:
            for turn in range(50):
                run(names, f"v{worker}_{turn} = {turn}")

        front = threading.Thread(target=foreground)
        workers = [threading.Thread(target=background, args=(worker,)) for worker in range(6)]
        front.start()
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        stop.set()
        front.join()
    finally:
        sys.setswitchinterval(before)
    assert all(notebook[f"v{worker}_{turn}"] == turn for worker in range(6) for turn in range(50))


@pytest.mark.parametrize("kept", ["", "\nregistry = [f]"], ids=["bound", "shared"])
def test_a_function_may_name_in_its_annotations_what_is_defined_later(
    names: NotebookNames, notebook: dict[str, Any], kept: str
) -> None:
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    run(names, f"{future}def f(y: Later = 1) -> Later: return y\nclass C:\n    y: Later{kept}\nz = 2")
    assert notebook["z"] == 2 and notebook["f"]() == 1
    run(names, "class Later: pass")
    with_names = eval("__import__('typing').get_type_hints(f)", notebook)
    assert with_names == {"y": notebook["Later"], "return": notebook["Later"]}


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated where they stand")
def test_annotations_can_be_had_in_all_formats_after_the_commit(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    from annotationlib import Format, ForwardRef, get_annotations

    run(names, "def f(y: Later, n: int): pass\nclass C:\n    y: Later\n    n: int")
    for one in (notebook["f"], notebook["C"]):
        assert get_annotations(one, format=Format.STRING) == {"y": "Later", "n": "int"}
        found = get_annotations(one, format=Format.FORWARDREF)
        assert isinstance(found["y"], ForwardRef) and found["n"] is int
        with pytest.raises(NameError, match="Later"):
            get_annotations(one)
    run(names, "class Later: pass")
    for one in (notebook["f"], notebook["C"]):
        assert get_annotations(one) == {"y": notebook["Later"], "n": int}
    cell = names.open(binds=["Later"])
    exec("from annotationlib import get_annotations\nclass Later: pass\nseen = get_annotations(f)", cell.globals)
    assert cell.globals["seen"]["y"] is cell.globals["Later"] is not notebook["Later"]
    names.end(cell, commit=False)
    assert get_annotations(notebook["f"]) == {"y": notebook["Later"], "n": int}


@pytest.mark.parametrize("broken", ["functions_to_move", "on_commit"])
def test_no_error_in_a_commit_costs_a_name(
    names: NotebookNames,
    notebook: dict[str, Any],
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("wrong")

    cells = [names.open(), names.open()]
    names.foreground_began("request")
    for number, cell in enumerate(cells):
        exec(f"a{number} = {number}\ndef f{number}(): return x", cell.globals)
        names.end(cell, commit=True)
    if broken == "on_commit":
        cells[0].on_commit = fail
    else:
        monkeypatch.setattr(names._globals, broken, fail)
    names.foreground_ended()
    assert (notebook["a0"], notebook["a1"], notebook["f0"](), notebook["f1"]()) == (0, 1, 1, 1)
    assert "wrong" in caplog.text


# -- functions of other cells ------------------------------------------------------------------------------------


def run_binding(names: NotebookNames, source: str, *binds: str) -> CellNames:
    """Run a cell that is known to bind some names."""
    cell = names.open(binds=binds)
    exec(compile(source, "<cell>", "exec", dont_inherit=True), cell.globals)
    names.end(cell, commit=True)
    return cell


def define(notebook: dict[str, Any], source: str) -> None:
    """What a foreground cell does."""
    exec(compile(source, "<foreground>", "exec", dont_inherit=True), notebook)


def test_a_function_of_another_cell_reads_what_the_running_cell_bound(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def read(): return x")
    cell = names.open(binds=["x"])
    exec("x = 2\nseen = read()", cell.globals)
    assert cell.globals["seen"] == 2 and notebook["read"]() == 1
    names.end(cell, commit=True)
    assert notebook["seen"] == 2 and notebook["read"]() == 2


def test_a_function_of_another_cell_binds_globals_where_the_running_cell_reads_them(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def add(n):\n    global x\n    x += n")
    cell = names.open()
    exec("add(10)\nseen = x", cell.globals)
    assert cell.globals["seen"] == 11 and notebook["x"] == 1
    names.end(cell, commit=True)
    assert notebook["x"] == 11


@pytest.mark.parametrize("inner", [False, True], ids=["itself", "in a closure"])
def test_what_one_function_of_another_cell_binds_by_global_another_one_reads(
    names: NotebookNames, notebook: dict[str, Any], inner: bool
) -> None:
    bind = "def add(n):\n    global x\n    x += n"
    if inner:
        bind = "def made():\n    def add(n):\n        global x\n        x += n\n    return add\nadd = made()"
    define(notebook, f"{bind}\ndef read(): return x\ndef both(n):\n    add(n)\n    return read()")
    cell = names.open()
    exec("add(10)\nseen = [read(), both(20), read()]", cell.globals)
    assert cell.globals["seen"] == [11, 31, 31] and notebook["read"]() == 1
    names.end(cell, commit=True)
    assert notebook["read"]() == 31 and notebook["both"](1) == 32


@pytest.mark.parametrize("read", ["eval('x')", "globals()['x']", "[exec('got = x', globals()), got][1]"])
def test_a_function_of_another_cell_that_may_read_any_name_reads_what_the_running_cell_bound(
    names: NotebookNames, notebook: dict[str, Any], read: str
) -> None:
    define(notebook, f"def read(): return {read}")
    cell = names.open(binds=["x"])
    exec("x = 2\nseen = read()", cell.globals)
    assert cell.globals["seen"] == 2 and notebook["read"]() == 1
    names.end(cell, commit=True)
    assert notebook["read"]() == 2


def test_functions_that_call_each_other_over_cells_find_each_other(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def outer(n): return is_even(n)\ndef is_even(n): return n == 0 or is_odd(n - 1)")
    run_binding(names, "def is_odd(n): return n != 0 and is_even(n - 1)\nseen = outer(10)", "is_odd")
    assert notebook["seen"] is True and notebook["outer"](7) is False


def test_what_a_decorator_wrapped_reads_the_running_cells_names_too(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(
        notebook,
        "def twice(f):\n    def wrapper(): return [f(), f()]\n    return wrapper\n@twice\ndef read(): return x",
    )
    run_binding(names, "x = 5\nseen = read()", "x")
    assert notebook["seen"] == [5, 5]


def test_a_function_that_the_cell_does_not_concern_stays_the_object_that_it_is(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def read(): return items\nkept = [read]")
    run_binding(names, "x = 2\nsame = kept[0] is read", "x")
    assert notebook["same"] is True


def test_functions_are_the_notebooks_own_again_when_the_cell_has_ended(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def read(): return x")
    read = notebook["read"]
    read.calls = 0
    run_binding(names, "x = 2\nread()\nread.calls += 1", "x")
    assert notebook["read"] is read and read.calls == 1 and read.__globals__ is notebook


def test_a_stand_in_that_the_cell_kept_somewhere_is_what_its_name_means_then(
    names: NotebookNames, notebook: dict[str, Any]
) -> None:
    define(notebook, "def read(): return x")
    run_binding(names, "x = 2\nitems.append(read)", "x")
    assert notebook["items"][0] is notebook["read"]
    notebook["x"] = 3
    assert notebook["read"]() == 3


def test_a_function_that_the_cell_redefines_is_committed(names: NotebookNames, notebook: dict[str, Any]) -> None:
    define(notebook, "def read(): return x")
    run_binding(names, "x = 2\ndef read(): return x * 10", "x", "read")
    assert notebook["read"]() == 20


# -- eval and exec in what a cell left behind ------------------------------------------------------------------------

LEFT_BEHIND = """
class C:
    def evaluated(self, a): return eval("x + a")
    def in_a_generator(self): return [*(eval(s) for s in ("x", "x + 1"))]
    def with_globals(self): return eval("x", globals())
    def with_both(self, **own): return eval("x + a", globals(), own)
    def with_others(self): return eval("x", {"x": "other"})
    def nested(self): return eval("[(lambda: x + i)() for i in range(2)]")
    def executed(self):
        own = {}
        exec("b = x\\ndel a\\ndef f(): return x", globals(), own | {"a": 1}) or exec("b = x", globals(), own)
        return own
    def bound_in_globals(self): exec("made = x", globals())
    def bound_nowhere(self):
        exec("x = 2")
        return x
"""


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("evaluated(1)", 101),
        ("in_a_generator()", [100, 101]),
        ("with_globals()", 100),
        ("with_both(a=5)", 105),
        ("with_others()", "other"),
        ("nested()", [100, 101]),
        ("executed()", {"b": 100}),
        ("bound_nowhere()", 100),
    ],
)
def test_evaluated_code_finds_the_notebooks_live_names(
    names: NotebookNames, notebook: dict[str, Any], call: str, expected: object
) -> None:
    run(names, LEFT_BEHIND)
    notebook["x"] = 100
    assert eval(f"C().{call}", notebook) == expected


def test_executed_code_binds_in_the_globals_it_is_given(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, LEFT_BEHIND)
    exec("C().bound_in_globals()", notebook)
    names.foreground_began("a")
    names.foreground_ended()
    assert notebook["made"] == 1


def test_a_notebooks_own_eval_is_not_hidden(names: NotebookNames, notebook: dict[str, Any]) -> None:
    run(names, LEFT_BEHIND)
    notebook["eval"] = lambda source: f"own {source}"
    assert eval("C().with_both", notebook) and eval("C().evaluated(1)", notebook) == "own x + a"
