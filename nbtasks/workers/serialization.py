"""Serialization of objects for another process and back.

What the notebook's code defines is pickled by value. A parcel is a list of buffers: the first one is the pickle, the
others are big buffers out of band (protocol 5), which are never copied into it.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import io
import logging
import pickle
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import cloudpickle
from cloudpickle.cloudpickle import _dynamic_class_reduce, _should_pickle_by_reference, _whichmodule

from nbtasks.task import Task
from nbtasks.workers.array_views import SharedArrays, is_array
from nbtasks.workers.partial_unpickling import Lost, PartialUnpickler, lost_within
from nbtasks.workers.quiet_import import imported_quietly
from nbtasks.workers.reducers import annotations_of, made_quietly, reduced_specially, without_annotations

__all__ = [
    "EVALUATES_TEXT",
    "Buffers",
    "Examined",
    "IsMain",
    "NotPackedError",
    "Shared",
    "attribute_of_module",
    "digest_of",
    "examine",
    "global_names",
    "is_on_trial",
    "kind_of",
    "missing_names",
    "pack",
    "pack_names",
    "raw",
    "refused_fields",
    "refused_names",
    "unpack",
    "unpack_names",
]

logger = logging.getLogger("nbtasks")

_FUNCTIONS = (functools.partial, types.MethodType, types.FunctionType)


def refused_names(function: Any, task: Task) -> list[str]:
    """One line for each object that the function uses, directly or not, and that cannot be sent."""
    lines: dict[str, None] = {}
    seen: set[int] = set()
    found = [function]
    while found:
        one = found.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        for value, where in _used(one):
            why = _refusal(value, task)
            if why is not None and isinstance(value, _FUNCTIONS):
                found.append(value)
            elif why is not None:
                lines[f"{where.format(kind_of(value))}: {why}"] = None
    return list(lines)


def refused_fields(values: dict[str, Any], task: Task) -> list[str]:
    """The same for the fields of a task class."""
    found = {name: (value, _refusal(value, task)) for name, value in values.items()}
    kind = type(task).__qualname__
    return [f"{name} ({kind_of(value)}), a field of {kind}: {why}" for name, (value, why) in found.items() if why]


def _refusal(value: Any, task: Task) -> str | None:
    try:
        pack(value, task=task)
    except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
        return str(error) or type(error).__name__
    return None


def _used(function: Any) -> Iterator[tuple[Any, str]]:
    """The objects that a function uses, each with a description in which `{}` stands for its class."""
    if isinstance(function, functools.partial):
        yield function.func, ""
        for number, value in enumerate(function.args, 1):
            yield value, f"argument {number} of {_name(function.func)} ({{}})"
        for name, value in function.keywords.items():
            yield value, f"argument {name} of {_name(function.func)} ({{}})"
    elif isinstance(function, types.MethodType):
        yield function.__func__, ""
        yield function.__self__, f"the object of {_name(function)}() ({{}})"
    elif isinstance(function, types.FunctionType):
        names = function.__globals__
        read = {name: names[name] for name in sorted(global_names(function.__code__)) if name in names}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # it is not bound yet
                read[name] = cell.cell_contents
        for name, value in read.items():
            yield value, f"{name} ({{}}), which {_name(function)}() reads{_line(function.__code__, name)}"
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            yield value, f"a default of {_name(function)}() ({{}})"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _line(code: types.CodeType, name: str) -> str:
    """The line in which the name is read first, as part of a message."""
    for step in dis.get_instructions(code):
        if step.argval == name and step.opname.startswith("LOAD") and step.positions and step.positions.lineno:
            return f" in line {step.positions.lineno}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and (line := _line(constant, name)):
            return line
    return ""


Buffers = list[Any]
IsMain = Callable[[Any], bool]
"""Whether a dict is the globals of the notebook's own code."""
_OUT_OF_BAND = 64 * 1024
"""Buffers of at least this number of bytes are sent out of band."""
_TRIED = 2**20
"""Pickles of up to this number of bytes are tried before they are sent back."""
_READS_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
_LOOKS_AROUND = frozenset({"globals", "eval", "exec"})
_AROUND = frozenset({"user_ns", "__main__"})
"""Code that calls one of `_LOOKS_AROUND`, or mentions one of `_AROUND`, may read any name."""
EVALUATES_TEXT = frozenset(
    {"eval", "exec", "query", "sql", "timeit", "repeat", "Timer", "system", "getoutput", "run_cell"}
)
"""Functions and methods that evaluate a text, in which any name may be."""
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_arriving = threading.local()


class _MainNames(dict[str, Any]):
    """Stands for the globals of the notebook's code; becomes those of the other side."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _names_here, ()


def _names_here() -> dict[str, Any]:
    names: dict[str, Any] = _arriving.names
    return names


def _task_here() -> Any:
    return _arriving.task


class _NameThere:
    """Stands for an object that the other side has under this name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _name_here, (self._name,)


def _name_here(name: str) -> Any:
    return _arriving.names[name]


class Shared(NamedTuple):
    """Objects of a parcel that are the same, or share memory, on both sides."""

    arrays: SharedArrays
    names: Mapping[str, Any] = MappingProxyType({})
    """Names that have the same objects on the other side."""
    references: Mapping[int, _NameThere] = MappingProxyType({})
    """For each of these objects, by its id, what stands for it."""

    @classmethod
    def among(cls, values: Iterable[Any], there: Mapping[str, Any]) -> Shared:
        """Of these values, where the other side has the objects of `there`."""
        references = {id(value): _NameThere(name) for name, value in there.items()}
        arrays = [(references[id(value)], value) for value in there.values() if is_array(value)]
        return cls(SharedArrays(values, arrays), there, references)

    def reduced(self, obj: Any) -> tuple[Any, ...] | None:
        """How to have the object there, if it is there already, or is a view of an array; else None."""
        reference = self.references.get(id(obj))
        return self.arrays.reduced(obj) if reference is None else reference.__reduce__()


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by value what the notebook's own code defines, but without globals.

    `collected` has the functions and classes with the names that they read. With its globals, a function that comes
    back would bring copies of objects that never changed. `task` becomes the task of the work on the other side.
    """

    def __init__(self, file: Any, is_main: IsMain | None, task: Any, buffers: Buffers) -> None:
        def apart(buffer: pickle.PickleBuffer) -> bool:
            if raw(buffer).nbytes < _OUT_OF_BAND:
                return True
            buffers.append(buffer)
            return False

        super().__init__(file, protocol=5, buffer_callback=apart)
        self._is_main = is_main
        self._task = task
        self.collected: list[tuple[Any, frozenset[str]]] = []
        self.mentioned: set[str] = set()
        """Names that may be read, in annotations not evaluated yet and in texts: they are sent if they can be."""
        self.looks_around = False
        self.limit: int | None = None
        self.shared: Shared | None = None

    @property
    def names_read(self) -> set[str]:
        """The names that the functions and classes read, directly."""
        return self.mentioned.union(*(names for _, names in self.collected))

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._task and obj is not None:
            return _task_here, ()
        if self.limit is not None and type(obj).__name__ == "ndarray" and obj.nbytes > self.limit:
            raise OverflowError("more than the limit")
        special = None if self.shared is None else self.shared.reduced(obj)
        if special is not None:
            return special
        special = reduced_specially(obj)
        if special is not None:
            if type(obj).__name__ == "ForwardRef":
                self.mentioned.update(_IDENTIFIER.findall(obj.__forward_arg__))
            return special
        if self._is_main is not None and type(obj) is types.FunctionType and self._is_main(obj.__globals__):
            return self._reduced_function(obj)
        if type(obj) is types.FunctionType:
            return self._with_annotations(obj)
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented and isinstance(obj, type) and _is_of_alias(obj):
            reduced = _dynamic_class_reduce(obj)
        if isinstance(obj, type) and obj.__module__ == "__main__":
            self.collected.append((obj, _annotated(obj)))
            reduced = made_quietly(obj, reduced)
        return reduced

    def _reduced_function(self, function: types.FunctionType) -> Any:
        self.globals_ref.setdefault(id(function.__globals__), _MainNames(__name__="__main__"))
        reduced = self._with_annotations(function)
        if isinstance(reduced, tuple) and len(reduced) > 2:
            if function.__name__ == "__annotate__":
                self.mentioned |= global_names(function.__code__)
            else:
                self.collected.append((function, global_names(function.__code__) | _annotated(function)))
            self.looks_around |= _looks_around(function.__code__)
            self.mentioned |= _names_in_texts(function.__code__)
            reduced[2][1]["__globals__"] = {}
        return reduced

    def _with_annotations(self, function: types.FunctionType) -> Any:
        """Reduce a function as cloudpickle does, but without evaluating its annotations."""
        if _should_pickle_by_reference(function) and not _is_of_alias(function):
            return NotImplemented
        annotations = annotations_of(function)
        if not annotations:
            return self._dynamic_function_reduce(function)
        reduced = self._dynamic_function_reduce(without_annotations(function))
        del reduced[2][1]["__annotations__"]
        reduced[2][1].update(annotations)
        return reduced


def _is_of_alias(obj: Any) -> bool:
    """Whether cloudpickle would send a function or class as a name of `__mp_main__`.

    That is multiprocessing's alias of `__main__`, where versions before 3.1 find what has no `__module__`. The other
    side does not have it.
    """
    return obj.__module__ is None and _whichmodule(obj, obj.__qualname__) == "__mp_main__"


def pack(
    value: Any,
    is_main: IsMain | None = None,
    task: Any = None,
    *,
    reach: Mapping[str, Any] | None = None,
    sent: frozenset[str] = frozenset(),
    shared: Shared | None = None,
) -> Buffers:
    """A parcel of `value`, with the names of `reach` that its functions read, directly or not.

    Names that are `sent` already are left out. Raises NotPackedError for a name, and for the value whatever its
    pickling raises.
    """
    head = io.BytesIO()
    apart: Buffers = []
    packer = _Packer(head, is_main, task, apart)
    packer.shared = shared
    packer.dump(value)
    known = set(sent)
    while reach is not None and (packer.collected or packer.mentioned):
        collected, packer.collected = packer.collected, []
        more = {name: one for one, names in collected for name in names if name in reach and name not in known}
        mentioned, packer.mentioned = packer.mentioned & reach.keys() - known - more.keys(), set()
        more |= {name: None for name in mentioned if _can_be_sent(reach[name], is_main, task)}
        if packer.looks_around:
            others = [name for name in list(reach) if name not in known and not name.startswith("_")]
            more |= {name: None for name in others if name not in more and _can_be_sent(reach[name], is_main, task)}
        known |= more.keys()
        try:
            packer.dump({name: reach[name] for name in more})
        except Exception:
            for name, user in more.items():
                _check(name, reach[name], is_main, task, user)
            raise
    return [head.getvalue(), *apart]


def _can_be_sent(value: Any, is_main: IsMain | None, task: Any) -> bool:
    try:
        pack(value, is_main, task)
    except Exception:  # noqa: BLE001 - pickling runs the objects' own code
        return False
    return True


def raw(buffer: Any) -> memoryview:
    """A buffer as flat bytes, not to be kept: garbage collection of views of views may crash CPython."""
    return buffer.raw() if isinstance(buffer, pickle.PickleBuffer) else memoryview(buffer).cast("B")


class NotPackedError(Exception):
    """A name that code uses cannot be sent."""

    def __init__(self, name: str, value: Any, user: Any, why: BaseException) -> None:
        super().__init__(str(why))
        self.name, self.value, self.user = name, value, user


def digest_of(value: Any, is_main: IsMain | None, limit: int | None) -> bytes | None:
    """A hash of an object's state; None if it cannot be pickled, or takes more than `limit` bytes."""
    return _hashed(value, is_main, limit)[0]


class Examined(NamedTuple):
    """What is known of a value without holding it."""

    digest: bytes | None
    """None: it cannot be pickled, or has a figure. Open figures are sent each time, and must stay the same objects."""
    reads: set[str]
    """The names that its functions read, directly."""
    size: int
    """How many bytes were hashed."""


def examine(value: Any, is_main: IsMain | None, limit: int | None = None) -> Examined:
    """The digest of a value that may stay in another process, and the names that its functions read."""
    digest, packer, hashed = _hashed(value, is_main, limit)
    return Examined(None if hashed.has_figure else digest, packer.names_read, hashed.size)


def missing_names(names: Iterable[str], reach: Mapping[str, Any], is_main: IsMain | None) -> set[str]:
    """The names that `reach` lacks, of these and of those that functions of their values read."""
    todo, seen, missing = list(names), set(names), set()
    while todo:
        name = todo.pop()
        if name not in reach:
            missing.add(name)
            continue
        read = examine(reach[name], is_main, _TRIED).reads - seen
        seen |= read
        todo += read
    return missing


def _hashed(value: Any, is_main: IsMain | None, limit: int | None) -> tuple[bytes | None, _Packer, _Hash]:
    hashed = _Hash(limit)
    apart: Buffers = []
    packer = _Packer(hashed, is_main, None, apart)
    packer.limit = limit
    try:
        packer.dump(value)
        for buffer in apart:
            hashed.write(raw(buffer))
    except Exception:  # noqa: BLE001 - pickling runs the object's own code
        return None, packer, hashed
    return hashed.hash.digest(), packer, hashed


class _Hash:
    """A file that keeps only a hash of what is written, of `limit` bytes at most."""

    def __init__(self, limit: int | None) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.has_figure = False
        self.size = 0
        self._left = limit

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise OverflowError("more than the limit")
        self.hash.update(data)
        self.size += size
        self.has_figure |= size < 2 * _OUT_OF_BAND and b"matplotlib.figure" in bytes(data)  # no array
        return size


def _check(name: str, value: Any, is_main: IsMain | None, task: Any, user: Any) -> None:
    try:
        pack(value, is_main, task)
    except Exception as error:
        raise NotPackedError(name, value, user, error) from error


def pack_names(
    names: Mapping[str, Any], is_main: IsMain | None = None, task: Any = None, there: Mapping[str, Any] | None = None
) -> tuple[Buffers, dict[str, BaseException]]:
    """Those of `names` that can be sent, as one parcel of a dict, and for each other one the error.

    `there` are names that have the same objects on the other side: what uses these uses those there, and views of such
    arrays become views of the arrays there.
    """
    shared = Shared.among(names.values(), there or {})
    names = {name: shared.references.get(id(value), value) for name, value in names.items()}
    sent = frozenset(names)
    try:
        return _packed_and_tried(names, is_main, task, sent, shared), {}
    except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code; the names at fault are found below
        logger.debug("not all could be sent: %s", error)
    refused: dict[str, BaseException] = {}
    able: dict[str, Any] = {}
    for name, value in names.items():
        try:
            _packed_and_tried(value, is_main, task, sent, shared)
        except Exception as error:  # noqa: BLE001 - as above
            attribute = attribute_of_module(name, value)
            if attribute is None:
                refused[name] = _without_frames(error)
            else:
                able[name] = attribute
        else:
            able[name] = value
    try:
        return pack(able, is_main, task, sent=sent, shared=shared), refused
    except Exception:  # noqa: BLE001 - threads change objects meanwhile, as those of a cell that has left them do
        return _packed_one_by_one(able, is_main, task, sent, refused), refused


def _without_frames(error: BaseException) -> BaseException:
    """The error without the frames in which it was raised: they have variables that hold the objects."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        seen.add(id(one))
        one.__traceback__ = None
        todo += [other for other in (one.__cause__, one.__context__) if other is not None and id(other) not in seen]
    return error


def _packed_one_by_one(
    names: Mapping[str, Any], is_main: IsMain | None, task: Any, sent: frozenset[str], refused: dict[str, BaseException]
) -> Buffers:
    """A parcel of the names that can be sent now, each as it is at one moment; the others are `refused`."""
    parcels: dict[str, Buffers] = {}
    for name, value in names.items():
        try:
            parcels[name] = _packed_and_tried(value, is_main, task, sent, None)
        except Exception as error:  # noqa: BLE001 - as above
            refused[name] = _without_frames(error)
    return pack({name: _Packed(parcel) for name, parcel in parcels.items()})


class _Packed:
    """A value that arrives from a parcel of its own."""

    def __init__(self, parcel: Buffers) -> None:
        self._parcel = [bytes(raw(one)) for one in parcel]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self._parcel,)


def _unpacked(parcel: Buffers) -> Any:
    return unpack(parcel, _arriving.names, _arriving.task)


class _ModuleAttribute:
    """Stands for an object that a module has under this name on both sides."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys.modules[self._module], self._name)


def attribute_of_module(name: str, value: Any) -> Any:
    """A reference to `value`, if an imported module has it as `name`; else None."""
    for module, found in list(sys.modules.items()):
        if (
            isinstance(found, types.ModuleType)
            and found.__name__ == module != "__main__"
            and vars(found).get(name) is value
        ):
            return _ModuleAttribute(module, name)
    return None


def _packed_and_tried(
    value: Any, is_main: IsMain | None, task: Any, sent: frozenset[str], shared: Shared | None
) -> Buffers:
    """A parcel that was unpacked on trial, unless it is big: some objects can be pickled only."""
    parcel = pack(value, is_main, task, sent=sent, shared=shared)
    if len(parcel[0]) <= _TRIED:
        nowhere = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            unpack(parcel, {} if shared is None else dict(shared.names), task, kind=_Trial)
    return parcel


class _Unpickler(pickle.Unpickler):
    """Imports quietly what a parcel refers to."""

    def find_class(self, module: str, name: str) -> Any:
        imported_quietly(module)
        return super().find_class(module, name)


class _Trial(pickle.Unpickler):
    """Unpickles where the parcel was made, and refuses names that exist only there."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            raise pickle.UnpicklingError(f"it is pickled by its name, {name}, which the other process does not have")
        return super().find_class(module, name)


def is_on_trial() -> bool:
    """Whether this thread unpacks a parcel only to try it, in the process that has made it."""
    return getattr(_arriving, "on_trial", False)


def unpack(
    parcel: Sequence[Any],
    names: dict[str, Any] | None = None,
    task: Any = None,
    *,
    kind: type[pickle.Unpickler] = _Unpickler,
) -> Any:
    """The value in a parcel. Functions of the notebook's own code get `names` as their globals."""
    before = getattr(_arriving, "names", None), getattr(_arriving, "task", None), is_on_trial()
    _arriving.names, _arriving.task = sys.modules["__main__"].__dict__ if names is None else names, task
    _arriving.on_trial = kind is _Trial
    try:
        head = io.BytesIO(parcel[0])
        unpickler = kind(head, buffers=iter(parcel[1:]))
        value = unpickler.load()
        size = raw(parcel[0]).nbytes
        while head.tell() < size:
            _arriving.names.update(unpickler.load())
        return value
    finally:
        _arriving.names, _arriving.task, _arriving.on_trial = before


def unpack_names(
    parcel: Sequence[Any],
    names: dict[str, Any],
    task: Any = None,
    *,
    of: Callable[[Any], dict[str, Any]] = lambda value: value,
) -> tuple[Any, dict[str, Lost]]:
    """Like `unpack`, without the names of the dict `of(value)` and others that cannot be rebuilt here."""
    try:
        return unpack(parcel, names, task), {}
    except Exception as error:  # noqa: BLE001 - objects are rebuilt by code of their own
        whole = error
    before = getattr(_arriving, "names", None), getattr(_arriving, "task", None)
    _arriving.names, _arriving.task = names, task
    try:
        head = io.BytesIO(parcel[0])
        unpickler = PartialUnpickler(head, buffers=iter(parcel[1:]))
        value = unpickler.load()
        try:
            dicts = [of(value)]
        except (AttributeError, KeyError):  # what cannot be rebuilt is no name
            raise whole from None
        size = raw(parcel[0]).nbytes
        while head.tell() < size:
            dicts.append(unpickler.load())
    finally:
        _arriving.names, _arriving.task = before
    lost: dict[str, Lost] = {}
    for found in dicts:
        for name in list(found):
            one = lost_within(found[name], unpickler.broken, names)
            if one is not None:
                lost[name] = one
                del found[name]
    for found in dicts[1:]:
        names.update(found)
    if not lost:
        raise whole
    return value, lost


def _annotated(obj: Any) -> frozenset[str]:
    """The names in annotations that are strings, which `typing.get_type_hints` looks up."""
    annotations = vars(obj).get("__annotations__", {}) if isinstance(obj, type) else _evaluated(obj)
    texts = [one for one in annotations.values() if isinstance(one, str)]
    return frozenset(name for text in texts for name in _IDENTIFIER.findall(text))


def _evaluated(function: Any) -> dict[str, Any]:
    return {} if getattr(function, "__annotate__", None) else function.__annotations__


def _looks_around(code: types.CodeType) -> bool:
    """Whether the code, or code defined in it, may read any name."""
    inner = (one for one in code.co_consts if isinstance(one, types.CodeType))
    return bool(_AROUND.intersection(code.co_names) or _LOOKS_AROUND & global_names(code)) or any(
        map(_looks_around, inner)
    )


def _names_in_texts(code: types.CodeType) -> set[str]:
    """The words in texts, of code that passes texts to what evaluates them (`df.query`)."""
    found: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names_in_texts(constant)
        elif isinstance(constant, str) and EVALUATES_TEXT.intersection(code.co_names):
            found.update(_IDENTIFIER.findall(constant))
    return found


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> frozenset[str]:
    """The names that the code, and code defined in it, reads as globals."""
    return frozenset(_read_globals(code))


def _read_globals(code: types.CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in _READS_GLOBAL:
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _read_globals(constant)


def kind_of(value: Any) -> str:
    """The name of a value's class, as it is written in code."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
