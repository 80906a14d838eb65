"""What is new in Python 3.14 and 3.15, sent to a process and back."""

from __future__ import annotations

import builtins
import sys
import textwrap
from typing import Any

import pytest

from nbtasks.workers.serialization import pack, unpack

deferred = pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated where they stand")
python_3_15 = pytest.mark.skipif(sys.version_info < (3, 15), reason="new in Python 3.15")


def names_of(source: str) -> dict[str, Any]:
    """The names of a cell, which is text, since Pythons before cannot compile it."""
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    exec(compile(textwrap.dedent(source), "<cell>", "exec", dont_inherit=True), names)
    return names


def sent(names: dict[str, Any], *wanted: str) -> tuple[list[Any], dict[str, Any]]:
    """These names as another process has them, and all that it has."""
    there: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    parcel = pack([names[name] for name in wanted], lambda one: one is names, None, reach=names)
    return unpack(parcel, there), there


CELL = """
import dataclasses, functools
class Other: pass
def plain(y: Later, n: Other = None) -> int: return 1
class Plain:
    Number = int
    y: Later
    n: Number
    def method(self, y: Later) -> Plain: return self
@dataclasses.dataclass
class Data:
    y: list[Later] | None = None
    own: Data | None = None
@dataclasses.dataclass(slots=True)
class Slotted:
    y: Later = None
    own: Slotted | None = None
def decorate(function):
    @functools.wraps(function)
    def wrapper(*args: Later): return function(*args)
    return wrapper
decorated = decorate(plain)
"""


@deferred
@pytest.mark.parametrize("name", ["plain", "Plain", "Data", "Slotted", "decorated"])
def test_annotations_that_are_not_evaluated_yet_arrive_as_they_are(name: str) -> None:
    from annotationlib import Format, get_annotations

    names = names_of(CELL)
    [value], there = sent(names, name)
    for how in (Format.STRING, Format.FORWARDREF):
        assert str(get_annotations(value, format=how)).partition(" at 0x")[0] == (
            str(get_annotations(names[name], format=how)).partition(" at 0x")[0]
        )
    with pytest.raises(NameError, match="Later"):
        get_annotations(value)
    later = there["Later"] = type("Later", (), {})
    found = get_annotations(value)
    assert found["y"] in (later, list[later] | None)
    assert len(found) == len(get_annotations(names[name], format=Format.STRING))


@deferred
def test_an_annotation_sends_what_it_names_and_never_costs_the_function() -> None:
    lock = "import threading\nlock = threading.Lock()"
    names = names_of(f"{lock}\nclass Sent: pass\ndef f(a: Sent, b: lock = None): return a")
    [f], there = sent(names, "f")
    assert f(1) == 1 and there["Sent"].__name__ == "Sent" and "lock" not in there


@deferred
def test_a_dataclass_that_names_itself_works_there_and_comes_back() -> None:
    [data], _ = sent(names_of(CELL + "data = Data(own=Data())"), "data")
    assert data.own.own is None and type(data.own) is type(data)


@python_3_15
def test_a_lazy_import_stays_one() -> None:
    names = names_of("""
        lazy import this.child
        lazy import wsgiref.util as util
        lazy from tabnanny import check
        lazy from no_such_module import thing
        """)
    wanted = ("this", "util", "check", "thing")
    values, _ = sent(names, *wanted)
    assert [repr(value) for value in values] == [repr(names[name]) for name in wanted]
    assert {type(value).__name__ for value in values} == {"lazy_import"}
    import tabnanny
    import wsgiref.util

    assert values[1].resolve() is wsgiref.util and values[2].resolve() is tabnanny.check


@python_3_15
def test_a_sentinel_is_the_same_object_when_it_comes_back() -> None:
    names = names_of("missing = sentinel('missing')")
    [there], _ = sent(names, "missing")
    [back], _ = sent({"__name__": "__main__", "missing": there}, "missing")
    assert back is names["missing"] and repr(there) == "missing"


@python_3_15
def test_a_frozendict_is_sent() -> None:
    names = names_of("class Own: pass\nfrozen = frozendict({'a': 1, 'b': Own})")
    [frozen], _ = sent(names, "frozen")
    assert frozen["a"] == 1 and frozen["b"].__name__ == "Own" and type(frozen).__name__ == "frozendict"
