"""Per-thread settings of libraries: `register`, and transfer between threads.

A setting such as scikit-learn's `set_config` or torch's grad mode holds for the thread that has set it. A background
cell in a thread or in a worker process has those of the notebook nevertheless, and what it sets is the notebook's after
the commit. For each library that takes two functions::

    from nbtasks import thread_state

    thread_state.register("sklearn", capture=sklearn.get_config, apply=lambda changed: sklearn.set_config(**changed))

`nbtasks.library_state` registers those of well-known libraries.
"""

from __future__ import annotations

import enum
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nbtasks.post_import import after_import

__all__ = [
    "UNSET",
    "Carried",
    "Changes",
    "Packed",
    "Process",
    "State",
    "apply",
    "capture",
    "capture_all",
    "changes_from",
    "merged",
    "pack",
    "register",
    "same_in",
    "unpack_changes",
]

logger = logging.getLogger("nbtasks")

Settings = Mapping[str, Any]
State = dict[str, Settings]
"""The settings of one thread, by library."""
Changes = dict[tuple[str, str], tuple[Any, Any]]
"""For each setting, by library and name, that has changed: what it was before, and what it is now."""
Packed = dict[str, dict[str, bytes]]
"""A state to be sent to another process."""


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
"""Stands in `apply` for the value of a setting that is to be removed: `capture` has not returned it there."""


@dataclass(frozen=True, eq=False)
class _Library:
    """The settings of one library, which is imported."""

    capture: Callable[[], Settings]
    apply: Callable[[Settings], object]
    initial: Callable[[], Settings]
    at_import: Settings
    per_thread: bool

    def complete(self, settings: Settings | None) -> Settings:
        """The settings with those that a thread has that has set nothing; None: of before the import."""
        return {**self.initial(), **(self.at_import if settings is None else settings)}


# By name, in the order of registration. Replaced as a whole, so that any thread may iterate it.
_libraries: dict[str, _Library] = {}
# In a worker process: settings of libraries that it had not imported when they came, and those that it has since.
_due: Packed = {}
_arrived: State = {}


def register(
    module: str,
    capture: Callable[[], Settings],
    apply: Callable[[Settings], object],
    *,
    initial: Callable[[], Settings] | None = None,
    per_thread: bool = True,
) -> Callable[[], None]:
    """Carry settings that the library `module` keeps per thread into background cells, and back.

    `capture()` returns the settings of the thread that calls it, by name; values should be comparable and picklable.
    `apply(changed)` sets those that it is passed, by name, in the thread that calls it; a setting that is to be removed
    is UNSET. Both are called once the library is imported, at each cell, and should take microseconds. `initial()`
    returns what a thread that has set nothing has of settings that appear only later; most libraries have none. With
    `per_thread=False` the settings belong to the process, and are carried into worker processes only.

    For worker processes, a library registers its settings when it is imported. Returns a function that undoes it.
    """
    name = f"{module}:{getattr(capture, '__qualname__', capture)}"

    def imported(_: object) -> None:
        global _libraries
        try:
            at_import = dict(capture())
        except Exception as error:  # noqa: BLE001 - a library of a version that has no such setting
            logger.debug("no thread state of %s: %s", module, error)
            return
        _libraries = {**_libraries, name: _Library(capture, apply, initial or dict, at_import, per_thread)}
        if name in _due:
            _arrived[name] = _unpacked(_due.pop(name))
            _apply_differences(capture_all(), {name: _arrived[name]})

    withdraw = after_import(module, imported)

    def unregister() -> None:
        global _libraries
        withdraw()
        _libraries = {key: library for key, library in _libraries.items() if key != name}

    return unregister


def capture(*, per_thread: bool = True) -> State:
    """The settings of this thread, or else of the process, of all imported libraries."""
    state: State = {}
    for name, library in _libraries.items():
        if library.per_thread is per_thread:
            try:
                state[name] = library.capture()
            except Exception as error:  # noqa: BLE001 - the library's own code
                logger.debug("thread state of %s: %s", name, error)
    return state


def capture_all() -> State:
    """The settings of this thread and those of the process."""
    return capture() | capture(per_thread=False)


def apply(settings: Mapping[tuple[str, str], Any]) -> None:
    """Set these settings, given by library and name, in this thread."""
    for name, changed in _by_library(settings).items():
        library = _libraries.get(name)
        if library is not None:
            try:
                library.apply(changed)
            except Exception as error:  # noqa: BLE001 - the library's own code
                logger.warning("settings of %s cannot be carried to another thread: %s", name, error)


def changes_from(before: State, now: State) -> Changes:
    """What differs; a library that `before` lacks was imported since."""
    changes: Changes = {}
    for name, settings in now.items():
        earlier = before.get(name)
        library = _libraries.get(name)
        if library is not None and (earlier is None or not _same(earlier, settings)):
            earlier, settings = library.complete(earlier), library.complete(settings)  # noqa: PLW2901
            for key in earlier.keys() | settings.keys():
                old, new = earlier.get(key, UNSET), settings.get(key, UNSET)
                if not _same(old, new):
                    changes[name, key] = old, new
    return changes


def merged(state: State, settings: Mapping[tuple[str, str], Any]) -> State:
    """The state with some settings replaced."""
    result = dict(state)
    for name, changed in _by_library(settings).items():
        both = {**result.get(name, {}), **changed}
        result[name] = {key: value for key, value in both.items() if value is not UNSET}
    return result


def same_in(state: State, key: tuple[str, str], value: Any) -> bool:
    """Whether a setting has this value in `state`."""
    name, setting = key
    library = _libraries.get(name)
    return library is not None and _same(library.complete(state.get(name)).get(setting, UNSET), value)


@dataclass
class Carried:
    """The settings that a cell begins with, on the thread that it runs on."""

    state: State
    _own: State = field(default_factory=dict)

    def enter(self) -> None:
        """Set them in this thread."""
        self._own = capture()
        _apply_differences(self._own, self.state)

    def leave(self) -> Changes:
        """What was set since, in this thread, which then has its own settings again."""
        now = capture()
        own = {name: self._own.get(name, library.at_import) for name, library in _libraries.items() if name in now}
        _apply_differences(now, own)
        return changes_from(self.state, now)

    def rebase(self, changes: Changes) -> None:
        """Apply settings of another cell, which count as the notebook's, unless this cell has set them too."""
        now = capture()
        taken = {key: new for key, (old, new) in changes.items() if same_in(now, key, old)}
        apply(taken)
        self.state = merged(self.state, taken)


# -- other processes --------------------------------------------------------------------------------------------------


def pack(state: State) -> Packed:
    """The state as bytes, without the settings that cannot be pickled."""
    packed: Packed = {}
    for name, settings in state.items():
        for key, value in settings.items():
            try:
                packed.setdefault(name, {})[key] = pickle.dumps(value, protocol=5)
            except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
                logger.debug("thread state of %s: %s", name, error)
    return packed


class Process:
    """Settings that a cell starts with in a worker process, on its thread."""

    def __init__(self, packed: Packed) -> None:
        _due.clear()
        _arrived.clear()
        now = capture_all()
        _apply_differences(now, {name: _unpacked(packed[name]) for name in now if name in packed})
        _due.update({name: settings for name, settings in packed.items() if name not in now})
        self._state = capture_all()

    def changed(self) -> Packed:
        """What was set since."""
        changes = changes_from(self._state | _arrived, capture_all())
        return pack(_by_library({key: new for key, (_, new) in changes.items()}))


def unpack_changes(packed: Packed, before: State) -> Changes:
    """What a cell has set in a worker process that it began with the state `before`."""
    changes: Changes = {}
    for name, settings in packed.items():
        library = _libraries.get(name)
        earlier = {} if library is None else library.complete(before.get(name))
        changes |= {(name, key): (earlier.get(key, UNSET), new) for key, new in _unpacked(settings).items()}
    return changes


def _unpacked(settings: Mapping[str, bytes]) -> dict[str, Any]:
    values = {}
    for key, pickled in settings.items():
        try:
            values[key] = pickle.loads(pickled)
        except Exception as error:  # noqa: BLE001 - as above
            logger.debug("thread state %r: %s", key, error)
    return values


# -- comparing and setting --------------------------------------------------------------------------------------------


def _apply_differences(now: State, wanted: State) -> None:
    changes = changes_from({name: now[name] for name in wanted if name in now}, wanted)
    if changes:
        apply({key: new for key, (_, new) in changes.items()})


def _by_library(settings: Mapping[tuple[str, str], Any]) -> State:
    by_library: dict[str, dict[str, Any]] = {}
    for (name, key), value in settings.items():
        by_library.setdefault(name, {})[key] = value
    return dict(by_library)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - the values' own code
        return False
