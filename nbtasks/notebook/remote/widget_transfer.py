"""Serialization of widgets for a cell in another process, and back.

In the worker a widget is another view of the same model, which the front end knows by its id, whichever process sends
for it. A widget that comes back is the notebook's own object.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from traitlets import All, EventHandler, HasTraits

from nbtasks.workers.reducers import reduces
from nbtasks.workers.serialization import is_on_trial

__all__ = ["arrived_models", "install", "made_widgets", "note_returned"]

_OF_PROCESS = frozenset({"comm", "_property_lock", "_states_to_send"})
_PLAIN = frozenset(vars(HasTraits()))
_arrived: dict[str, dict[str, Any]] = {}
"""In a worker: the state of the notebook's widgets, by their models' ids, when they arrived or were sent back last.

Widgets themselves may have no hash: plotly's figures compare by value.
"""
_here = {"worker": False}


def install(*, worker: bool = False) -> None:
    """Make widgets picklable; a worker sends only what it has changed in the notebook's widgets."""
    _here["worker"] = worker
    reduces("ipywidgets.Widget")(_widget)


def arrived_models() -> list[str]:
    """In a worker: the ids of the notebook's widgets that the cell uses."""
    return list(_arrived)


def made_widgets() -> dict[str, Any]:
    """In a worker: the widgets that the cell has made, named or not, by the ids of their models."""
    module = sys.modules.get("ipywidgets.widgets.widget")
    made = {} if module is None else dict(module._instances)
    return {model: widget for model, widget in made.items() if model not in _arrived}


def note_returned() -> None:
    """In a worker that is kept after its cell: the notebook has the widgets of the cell now."""
    module = sys.modules.get("ipywidgets.widgets.widget")
    for widget in [] if module is None else list(module._instances.values()):
        if widget.comm is not None:
            _arrived[widget.model_id] = _state(widget)


def _widget(widget: Any) -> tuple[Any, ...]:
    model = None if widget.comm is None else widget.comm.comm_id
    return _of_model, (type(widget), model), _changed(widget), None, None, _set


def _changed(widget: Any) -> dict[str, Any]:
    now = _state(widget)
    before = {} if widget.comm is None else _arrived.get(widget.model_id, {})
    return {
        part: [one for one in now[part] if not any(_is_same(one, other) for other in before.get(part, ()))]
        for part in now
    }


def _state(widget: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The values of its traits, its other attributes, and its observers but for those of its class.

    Without weak proxies, such as that of tqdm's box to its bar: what they stand for would be sent in their place.
    """
    return {
        "traits": [item for item in widget._trait_values.items() if item[0] not in _OF_PROCESS],
        "attributes": [
            (name, value)
            for name, value in vars(widget).items()
            if name not in _PLAIN and type(value) not in weakref.ProxyTypes
        ],
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
    """The widget of that model, the one that is here already, if there is one."""
    known = sys.modules["ipywidgets"].widgets.widget._instances.get(model)
    if known is not None:
        return _Tried() if is_on_trial() else known
    make: Any = kind.__new__
    widget = make(kind)
    widget._model_id = model
    if model is not None:
        widget.comm = _comm(model)
    return widget


def _comm(model: str) -> Any:
    """A comm to a model that the front end has. (ipykernel sets the kernel of those that it opens only.)"""
    import comm

    made = comm.create_comm(target_name="jupyter.widget", comm_id=model, primary=False)
    if getattr(made, "kernel", made) is None:
        made.kernel = sys.modules["IPython"].get_ipython().kernel
    comm.get_comm_manager().register_comm(made)
    return made


class _Tried:
    """Stands for a widget while a parcel is unpacked on trial."""


def _set(widget: Any, state: dict[str, list[tuple[Any, ...]]]) -> None:
    """Set its state without notifying observers: they were notified where it changed."""
    if isinstance(widget, _Tried):
        return
    widget._trait_values.update(state["traits"])
    vars(widget).update(state["attributes"])
    for name, kind, observer in state["observers"]:
        widget._add_notifiers(observer, All if name is None else name, kind)
    if _here["worker"] and widget.comm is not None:
        _arrived[widget.model_id] = _state(widget)
