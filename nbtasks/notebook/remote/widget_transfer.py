"""Widgets on their way to another process and back: there they are views of the same model, and here they come back as
themselves.

The front end knows a widget by its model's id, whichever process speaks for it. Knows nothing of how it travels.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from traitlets import All, EventHandler, HasTraits

from nbtasks.workers.reducers import reduces

__all__ = ["install"]

_OF_PROCESS = frozenset({"comm", "_property_lock", "_states_to_send"})
_PLAIN = frozenset(vars(HasTraits()))
_arrived: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
"""In a worker: what the widgets that came from the notebook were like when they arrived."""
_here = {"worker": False}


def install(*, worker: bool = False) -> None:
    """Let widgets be sent from now on; in a worker only what it has changed of those that came from the notebook."""
    _here["worker"] = worker
    reduces("ipywidgets.Widget")(_widget)


def _widget(widget: Any) -> tuple[Any, ...]:
    model = None if widget.comm is None else widget.comm.comm_id
    return _of_model, (type(widget), model), _changed(widget), None, None, _set


def _changed(widget: Any) -> dict[str, Any]:
    now, before = _state(widget), _arrived.get(widget, {})
    return {
        part: [one for one in now[part] if not any(_is_same(one, other) for other in before.get(part, ()))]
        for part in now
    }


def _state(widget: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The values of its traits, its other attributes, and those who observe it but for its class's own methods."""
    return {
        "traits": [item for item in widget._trait_values.items() if item[0] not in _OF_PROCESS],
        "attributes": [item for item in vars(widget).items() if item[0] not in _PLAIN],
        "observers": [
            (None if name is All else name, kind, observer)
            for name, kinds in widget._trait_notifiers.items()
            for kind, observers in kinds.items()
            for observer in observers
            if not isinstance(observer, EventHandler)
        ],
    }


def _is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return one[:-1] == other[:-1] and (one[-1] is other[-1] or _is_method(one[-1], other[-1]))


def _is_method(one: Any, other: Any) -> bool:
    return hasattr(one, "__self__") and hasattr(other, "__self__") and one == other


def _of_model(kind: type[Any], model: str | None) -> Any:
    """The widget of that model; a second one of the worker's own is but tried whether it can be made."""
    known = sys.modules["ipywidgets"].widgets.widget._instances.get(model)
    if known is not None:
        return _Tried() if _here["worker"] else known
    make: Any = kind.__new__
    widget = make(kind)
    widget._model_id = model
    if model is not None:
        widget.comm = _comm(model)
    return widget


def _comm(model: str) -> Any:
    """The channel to a model that the front end has; those that are opened find their kernel by themselves."""
    import comm

    made = comm.create_comm(target_name="jupyter.widget", comm_id=model, primary=False)
    if getattr(made, "kernel", made) is None:
        made.kernel = sys.modules["IPython"].get_ipython().kernel
    comm.get_comm_manager().register_comm(made)
    return made


class _Tried:
    """What a parcel has in a widget's place while it is tried."""


def _set(widget: Any, state: dict[str, list[tuple[Any, ...]]]) -> None:
    """Nobody is told: those who observe it have heard of it where it happened."""
    if isinstance(widget, _Tried):
        return
    widget._trait_values.update(state["traits"])
    vars(widget).update(state["attributes"])
    for name, kind, observer in state["observers"]:
        widget._add_notifiers(observer, All if name is None else name, kind)
    if _here["worker"]:
        _arrived[widget] = _state(widget)
